"""Preference pairs come in here: one function, one shape out.

`load_pairs` turns a file, a folder, a hub data set, a DataFrame, a list or a `datasets.Dataset`
into a `datasets.Dataset` with the columns `id, prompt, chosen, rejected`, and where the source has
them `chosen_score, rejected_score`. Files of this package, in the order in which a row meets them:

    sources.py   finds out what the source is
    files.py     reads files and folders, with csv_files.py and json_files.py
    tables.py    holds a source as columns
    recipes.py   makes pairs of two or more answers and a judgement, as data sets publish them
    columns.py   takes the columns of a pair, under nbkit's names or those the caller says
    messages.py  brings messages into one form
    layouts.py   recognises the layout and brings a row into prompt, chosen, rejected
    checks.py    finds what is wrong with a row, and words the one error about it
    settings.py  keeps what a row tells the chat template
    rows.py      does all this for every row, and gives it its id
    hints.py     says which columns could be what, in errors and warnings

And pairs with other labels, as controls: `flip_labels`, `coin_labels` (labels.py).
"""
