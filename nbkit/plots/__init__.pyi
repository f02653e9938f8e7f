from .bands import band_plane
from .common import COLORS, as_png
from .distribution import margins
from .experiments import comparison, share_curve
from .kept import kept_and_dropped
from .learning import learning_order
from .plane import margin_plane
from .rates import win_rates
from .tokens import mask_view, token_view
from .trace import training_trace

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
