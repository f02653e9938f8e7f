"""Training on TRL: `train_dpo`, `train_reward_model`.

Files::

    dpo.py          policies, on preference pairs
    reward.py       reward models, on preference pairs
    trainers.py     TRL's trainers, fed with nbkit's tokens and log-probs: the only import of trl
    planning.py     how many updates it makes, on which pairs; numbers.py: what its settings may be
    weights.py      their precision while they are trained; learned.py: whether they have moved
    callbacks.py    progress, log, trace; checkpoints.py: where a run's state lies
    randomness.py   the caller's random states stay as they were
"""
