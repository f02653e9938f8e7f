"""Derivatives of response log-probs with respect to a policy's parameters.

Files::

    parameters.py   which parameters, and arithmetic of directions in their space
    gradient.py     the gradient of a function of all log-probs, summed over pairs
    differences.py  the derivative of every log-prob along one direction: finite differences,
    jvp.py          ... forward-mode differentiation,
    ghost.py        ... one backward pass that never makes a pair's gradient,
    exact.py        what the last two need of a policy
    loop.py         ... and pair by pair, the slow way that the others are checked against
    along.py        the choice between them, checked on a few pairs
    curvature.py    a direction times the inverse Gauss-Newton matrix

One direction serves all pairs: the derivative along it costs about two scoring passes, however many
parameters there are.
"""
