"""Building the course: `nbkit course build` and `nbkit course check`.

Files::

    commands.py     build and check
    index.py        course.toml: the lessons in order, and where their parts lie
    assembling.py   from a source to a notebook without outputs; the landing page
    running.py      execute a notebook, and keep what a reader should see
    checks.py       what is out of step, or should not be in a notebook
    readme.py       the generated parts of README.md
"""
