"""Pictures. Tidy data in, `ax` in and out, never `plt.show()`.

Files::

    distribution.py  margins: distributions of any scores
    trace.py         training_trace: the log-probs of both responses while training
    rates.py         win_rates: points with their intervals
    learning.py      learning_order: the margins of all pairs while training
    experiments.py   comparison, share_curve: experiments over several seeds
    kept.py          kept_and_dropped: what one share keeps
    plane.py         margin_plane: alignment potential as lines over the two margins
    bands.py         band_plane: percentile bands of two scores
    tokens.py        token_view, mask_view: single tokens as HTML, every text escaped
    marked.py        pairs that are kept, dropped or marked, in figures and legends
    common.py        colours and checks that they share; a figure as PNG
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
