"""Pictures. Tidy data in, `ax` in and out, never `plt.show()`.

    figures.py   margins, training_trace, win_rates: drawn on a matplotlib Axes
    tokens.py    token_view, mask_view: single tokens as HTML, every text escaped
"""

from nbkit.plots.figures import COLORS, margins, training_trace, win_rates
from nbkit.plots.tokens import mask_view, token_view

__all__ = ["COLORS", "margins", "mask_view", "token_view", "training_trace", "win_rates"]
