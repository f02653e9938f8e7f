"""Texts become token ids, exactly as TRL's trainers make them.

Files::

    ids.py         `TokenPair`, `tokenize_pairs`; which pairs cannot be scored
    templates.py   conversations become text by a chat template
    doubts.py      what may surprise about the tokens, said once
    texts.py       tokens and messages as a reader sees them
"""
