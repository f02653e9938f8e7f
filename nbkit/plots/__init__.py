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

from nbkit.plots.bands import band_plane
from nbkit.plots.common import COLORS, as_png
from nbkit.plots.distribution import margins
from nbkit.plots.experiments import comparison, share_curve
from nbkit.plots.kept import kept_and_dropped
from nbkit.plots.learning import learning_order
from nbkit.plots.plane import margin_plane
from nbkit.plots.rates import win_rates
from nbkit.plots.tokens import mask_view, token_view
from nbkit.plots.trace import training_trace

__all__ = [
    "COLORS",
    "as_png",
    "band_plane",
    "comparison",
    "kept_and_dropped",
    "learning_order",
    "margin_plane",
    "margins",
    "mask_view",
    "share_curve",
    "token_view",
    "training_trace",
    "win_rates",
]
