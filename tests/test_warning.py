"""A warning names the line of the user's that led to it, however deep in nbkit it was said."""

import contextlib
import warnings

import pytest

from nbkit.left_out import LeftOut
from nbkit.warning import warn

CODE = """
def shallow():
    warn("so")

def deep():
    shallow()

@contextmanager
def block():
    deep()
    yield

def in_a_block():
    with block():
        pass

def of_pairs():
    left_out.warn(2)
"""


def functions(module: str) -> dict:
    """The functions above, in a module of this name."""
    names = dict(
        __name__=module, warn=warn, contextmanager=contextlib.contextmanager,
        left_out=LeftOut({"p0": "too long"}),
    )  # fmt: skip
    exec(compile(CODE, f"{module}.py", "exec"), names)
    return names


@pytest.mark.parametrize("way", ["shallow", "deep", "in_a_block", "of_pairs"])
@pytest.mark.parametrize(
    ("module", "named"), [("nbkit.some.where", __file__), ("nbkitten", "nbkitten.py")]
)
def test_a_warning_names_the_nearest_line_outside_nbkit(module, named, way):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        functions(module)[way]()
    assert [one.filename for one in found] == [named]
