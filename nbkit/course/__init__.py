"""The course, on top of the kit: nothing in the kit imports it.

    lab.py     `nbkit lab`: JupyterLab on the tour
    tour.py    `nbkit tour`: the tour in a terminal, without a browser
"""


class CannotStart(Exception):
    """A command cannot do what was asked of it here; the message says why, and what to do."""
