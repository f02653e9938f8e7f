"""The one table: log-probs of the chosen and rejected responses under a policy.

Files::

    table.py       `response_logprobs`, `token_logprobs`
    engine.py      the forward passes: one log-prob for every response token of every pair
    packing.py     packed pairs: one row `[prompt | chosen | rejected]` a pair, no padding
    attending.py   the forward pass over such a row
    head.py        log-probs under a linear head, without [tokens, vocabulary] logits
    fitting.py     pairs as token ids, as far as a policy can score them
    finite.py      log-probs that are no numbers: refused
    store.py       log-probs kept on disk by content
    rows.py        rows of a table for pairs that are about to be used
    precision.py   how far from exact a log-prob is that was made in a given precision
"""
