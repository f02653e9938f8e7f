"""What all widgets are made of: sliders, and below them a picture and a table that follow."""

from base64 import b64encode
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets


def follow(
    sliders: list[ipywidgets.Widget], look: Callable[[], tuple[str, str]]
) -> ipywidgets.VBox:
    """Sliders, and below them a picture and a table.

    Args:
        sliders: from `slider`.
        look: picture and table, as HTML, for where the sliders stand now. It is called once at the
            start, so that what cannot be drawn is refused here, not in a callback that nobody
            hears; then whenever a handle is let go, or an arrow key moves it.
    """
    picture, table = ipywidgets.HTML(), ipywidgets.HTML()

    def redraw(change: object = None) -> None:
        picture.value, table.value = look()

    redraw()
    for handle in sliders:
        handle.observe(redraw, names="value")
    return ipywidgets.VBox([*sliders, picture, table])


def slider(kind: Any, description: str, hint: str, *, width: str = "36em", **values: Any) -> Any:
    """A slider that moves what it steers when it is let go.

    Args:
        kind: class of ipywidgets.
        description: the text beside it.
        hint: its `tooltip`, which ipywidgets 7 calls `description_tooltip`.
        width: at most.
        **values: further traits of `kind`: value, min, max, step, ...
    """
    values["tooltip" if kind.has_trait(kind, "tooltip") else "description_tooltip"] = hint
    return kind(
        description=description,
        continuous_update=False,
        style={"description_width": "initial"},
        layout={"width": f"min(100%, {width})"},
        **values,
    )


def image(png: bytes, words: str) -> str:
    """A figure as an image inside the page, with words for those who do not see it."""
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<img alt="{escape(words)}" style="max-width:100%" src="{source}">'
