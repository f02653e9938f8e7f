"""The course, on top of the kit: nothing in the kit imports it.

Files::

    lessons/       the reviewed sources of the notebooks, with the solutions, and the index
    exercises/     checks of what learners write
    profiles.py    how much a notebook does: quick, full or gpu
    machine.py     readiness: can this machine run the course?
    lab.py         `nbkit lab`: JupyterLab on the list of lessons
    tour.py        `nbkit tour`: the tour in a terminal, without a browser
    building/      `nbkit course`: makes the notebooks, and checks them
    errors.py      what a command says when it cannot do what was asked
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
