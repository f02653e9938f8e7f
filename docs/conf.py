"""Sphinx: the API reference, the rendered notebooks and their gallery.

    python -m sphinx -W --keep-going -c docs . build/docs

The source folder is the repository, so that links between README.md, the notebooks and these pages
are those of the repository. Nothing is executed, and nothing is fetched.
"""

import re
import tomllib
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.util.logging import getLogger

import nbkit

logger = getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
LESSONS = tomllib.loads((ROOT / "nbkit/course/lessons/course.toml").read_text("utf-8"))["lesson"]

REWORDED = [  # what the converter of formulas does not know, or sets too close
    (r"\\[bB]ig(?=\\)", ""),  # \big\langle
    (r"\\(log|ln)(?![a-z]|\s*[_^])", r"\\\1\\,"),
]


def cards() -> str:
    """A card for each lesson that has a picture; it leads to the rendered notebook."""
    lines = ["::::{grid} 1 2 2 2", ":gutter: 3"]
    for lesson in LESSONS:
        picture = f"images/{lesson['file']}.png"
        if (ROOT / "docs" / picture).exists():
            lines += [
                f":::{{grid-item-card}} {lesson['number']} · {lesson['title']}",
                f":img-top: {picture}",
                f":link: ../notebooks/{lesson['file']}",
                ":link-type: doc",
                ":::",
            ]
    return "\n".join([*lines, "::::"])


def draw_formula(translator, node) -> None:
    """Formulas become MathML, which browsers draw without a script from elsewhere."""
    tex = node.astext()
    for pattern, better in REWORDED:
        tex = re.sub(pattern, better, tex)
    drawn = convert(tex, display="block" if node.tagname == "math_block" else "inline")
    if "\\" in drawn:
        logger.warning("latex2mathml does not know a command in %s: write it otherwise", tex)
    translator.body.append(drawn)
    raise SkipNode


def setup(app) -> None:
    app.add_html_math_renderer("mathml", (draw_formula, None), (draw_formula, None))


project = "nbkit"
author = "The nbkit developers"
copyright = author
version = release = nbkit.__version__

root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/api/*.rst", "notebooks/*.ipynb"]
include_patterns += ["nbkit/world/README.md"]
exclude_patterns = [".*", "build", "**/.ipynb_checkpoints"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "myst_nb",
]
default_role = "py:obj"  # `code` in a docstring; a link where it is a name of these pages
python_maximum_signature_line_length = 88
autodoc_member_order = "bysource"
napoleon_use_param = False  # so that `epochs, batch_size: ...` stays one line
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]  # and `low, high: ...` too

# A type of nbkit in a signature must be on a page. Other libraries' would need their inventories.
nitpicky = True
nitpick_ignore_regex = [("py:(?!class).*", "(?s).*"), ("py:class", r"(?!nbkit\.).*")]

nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
myst_substitutions = {"cards": cards()}

html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_title = f"nbkit {release}"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["templates"]
