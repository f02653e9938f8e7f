"""The course, on top of the kit: nothing in the kit imports it.

Files::

    lab.py         `nbkit lab`: JupyterLab on the notebooks
    tour.py        `nbkit tour`: the tour in a terminal, without a browser
    profiles.py    how much a notebook does: quick, full or gpu
    machine.py     readiness: can this machine run the course?
    exercises/     checks of what learners write
    lessons/       the reviewed sources of the notebooks, with the solutions, and the index
    building/      makes the notebooks, and checks them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
