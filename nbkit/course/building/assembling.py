"""Notebooks without outputs: a lesson from its reviewed source, and the landing page."""

import hashlib

import jupytext
import nbformat
from nbformat import NotebookNode

from nbkit.course.building.index import Course, Lesson, table

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader's markers
STUB = 'raise NotImplementedError("your turn: replace this line")'
# No versions here: they would change with every machine that builds.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def assemble(course: Course, lesson: Lesson, solved: bool = False) -> NotebookNode:
    """The lesson's notebook without outputs: title, cells of the source, links, stable ids."""
    text = course.source(lesson).read_text(encoding="utf-8")
    cells = jupytext.reads(text, fmt="py:percent").cells
    if not solved:
        for cell in cells:
            cell.source = learner(cell.source)
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
    title = nbformat.v4.new_markdown_cell(f"# {lesson.name}\n\n{_card(course, lesson)}")
    footer = nbformat.v4.new_markdown_cell(f"---\n{_links(course, lesson)}")
    return _notebook([title, *cells, footer])


def landing_page(course: Course) -> NotebookNode:
    """The notebook that JupyterLab opens on: `index.md`, with the table of the lessons.

    Each heading begins a cell.
    """
    text = (course.sources / "index.md").read_text(encoding="utf-8")
    text = text.replace("<!-- lessons -->", table(course, course.notebooks))
    parts = text.replace("\n## ", "\n\0## ").split("\0")
    return _notebook([nbformat.v4.new_markdown_cell(part.strip()) for part in parts])


def learner(source: str) -> str:
    """Put the stub in place of every solution, at its indentation.

    Raises ValueError for markers that do not pair up, or outside a function: a stub there would
    stop "Run All".
    """
    kept, inside = [], False
    for line in source.splitlines():
        marker = line.strip()
        if marker == BEGIN:
            indent = line[: len(line) - len(line.lstrip())]
            if inside or not indent:
                raise ValueError(f"{BEGIN}: expected inside a function, and not nested:\n{source}")
            inside = True
            kept.append(indent + STUB)
        elif marker == END:
            if not inside:
                raise ValueError(f"{END} without {BEGIN}:\n{source}")
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"{BEGIN} without {END}:\n{source}")
    return "\n".join(kept)


def _card(course: Course, lesson: Lesson) -> str:
    cost = f"Runs in about {lesson.minutes} min, {lesson.memory} memory"
    return f"*{cost} · Paper: {lesson.paper}*\n\n{_links(course, lesson)}"


def _links(course: Course, lesson: Lesson) -> str:
    """To the lesson before (the landing page, from the first) and to the one after."""
    at = course.lessons.index(lesson)
    before = _link(course.lessons[at - 1]) if at else f"[Start here]({course.landing.name})"
    links = [f"← {before}"]
    if at + 1 < len(course.lessons):
        links.append(f"{_link(course.lessons[at + 1])} →")
    return " &nbsp;|&nbsp; ".join(links)


def _link(lesson: Lesson) -> str:
    if lesson.written:
        return f"[{lesson.name}]({lesson.file}.ipynb)"
    return f"{lesson.name} (not yet written)"


def _notebook(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook of these cells. Their ids come from their content: a changed cell gets a new id,
    and all others keep theirs."""
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook
