"""Widgets: the static figures with a handle. Only here is ipywidgets imported.

Every picture stands in the notebooks without a widget too, so that nothing is lost on a page that
cannot run one.

Files::

    share.py    share_slider: what a share of the pairs keeps and drops
    weight.py   weight_slider: what the weight of alignment potential brings in and throws out
    bands.py    band_sliders: what lies in the percentile bands of two scores
    frame.py    what they share: sliders, a picture and a table that follow
    table.py    the table of pairs, every text escaped
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
