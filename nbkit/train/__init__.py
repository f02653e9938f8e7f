"""Training on TRL: `train_dpo`, `train_reward_model`.

Files::

    dpo.py          policies, on preference pairs; run.py: what such a training leaves
    reward.py       reward models, on preference pairs
    settings.py     what the settings are called and may be; how many updates they make
    fitting.py      the pairs that are trained on; reference.py: the reference's log-probs of them
    trainers.py     TRL's trainers, fed with nbkit's tokens and log-probs: the only import of trl
    weights.py      their precision while they are trained; learned.py: whether they have moved
    callbacks.py    progress, log, trace; checkpoints.py: where a run's state lies
    randomness.py   the caller's random states stay as they were
"""
