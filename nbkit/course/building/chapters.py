"""The course and its chapters: from a reviewed source to a notebook without outputs."""

import hashlib
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import jupytext
import nbformat

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader's markers
STUB = 'raise NotImplementedError("your turn: replace this line")'
# No versions here: they would change with every machine that builds.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


@dataclass(frozen=True)
class Chapter:
    """One entry of course.toml; the last three come with its source."""

    number: str
    file: str
    title: str
    summary: str
    paper: str
    minutes: int = 0
    memory: str = ""
    written: bool = False

    @property
    def name(self) -> str:
        return f"{self.number} · {self.title}"


@dataclass(frozen=True)
class Course:
    """The folder with course.toml, and its chapters in order."""

    folder: Path
    chapters: tuple[Chapter, ...]

    @classmethod
    def read(cls, folder: Path) -> "Course":
        index = tomllib.loads((folder / "course.toml").read_text(encoding="utf-8"))
        known = {field.name for field in fields(Chapter)}
        for entry in index["chapter"]:
            wrong = (set(entry) ^ known) - {"minutes", "memory", "written"}
            if wrong:
                names = ", ".join(sorted(wrong))
                raise ValueError(
                    f"course.toml, chapter {entry.get('number')}: {names} is missing or unknown"
                )
        return cls(folder, tuple(Chapter(**entry) for entry in index["chapter"]))

    @property
    def written(self) -> list[Chapter]:
        return [chapter for chapter in self.chapters if chapter.written]

    def source(self, chapter: Chapter) -> Path:
        return self.folder / "src" / f"{chapter.file}.py"

    def notebook(self, chapter: Chapter) -> Path:
        return self.folder / f"{chapter.file}.ipynb"

    def picture(self, chapter: Chapter) -> Path:
        return self.folder / "images" / f"{chapter.file}.png"


def assemble(course: Course, chapter: Chapter, solved: bool = False):
    """The chapter's notebook without outputs: title, cells of the source, links, stable ids."""
    text = course.source(chapter).read_text(encoding="utf-8")
    cells = jupytext.reads(text, fmt="py:percent").cells
    if not solved:
        for cell in cells:
            cell.source = learner(cell.source)
    for cell in cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
    title = nbformat.v4.new_markdown_cell(f"# {chapter.name}\n\n{_card(course, chapter)}")
    footer = nbformat.v4.new_markdown_cell(f"---\n{_links(course, chapter)}")
    notebook = nbformat.v4.new_notebook(cells=[title, *cells, footer])
    notebook.metadata = nbformat.from_dict(METADATA)
    _number_cells(notebook)
    return notebook


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


def _card(course: Course, chapter: Chapter) -> str:
    cost = f"Runs in about {chapter.minutes} min, {chapter.memory} memory"
    facts = f"{cost} · Paper: {chapter.paper}"
    return f"*{facts}*\n\n{_links(course, chapter)}"


def _links(course: Course, chapter: Chapter) -> str:
    at = course.chapters.index(chapter)
    links = []
    if at > 0:
        links.append(f"← {_link(course.chapters[at - 1])}")
    if at + 1 < len(course.chapters):
        links.append(f"{_link(course.chapters[at + 1])} →")
    return " &nbsp;|&nbsp; ".join(links)


def _link(chapter: Chapter) -> str:
    if chapter.written:
        return f"[{chapter.name}]({chapter.file}.ipynb)"
    return f"{chapter.name} (not yet written)"


def _number_cells(notebook) -> None:
    """Ids from content: a changed cell gets a new id, and all others keep theirs."""
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
