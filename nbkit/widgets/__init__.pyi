from .bands import band_sliders
from .share import share_slider
from .weight import weight_slider

__all__ = [
    "band_sliders",
    "share_slider",
    "weight_slider",
]
