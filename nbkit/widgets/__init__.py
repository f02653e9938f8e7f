"""Widgets: the static figures with a handle. Only here is ipywidgets imported."""

from nbkit.widgets.sliders import band_sliders, share_slider, weight_slider

__all__ = ["band_sliders", "share_slider", "weight_slider"]
