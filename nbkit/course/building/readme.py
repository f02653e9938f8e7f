"""The generated parts of README.md: the picture, the course table, the list of modules.

Each stands between `<!-- NAME:begin ... -->` and `<!-- NAME:end -->`.
"""

import ast
import re
from pathlib import Path

from nbkit.course.building.chapters import Chapter, Course


def write_readme(course: Course) -> None:
    path = readme_path(course)
    text = rendered(course, path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8", newline="\n")


def readme_problems(course: Course) -> list[str]:
    """Names the generated parts that are out of date."""
    text = readme_path(course).read_text(encoding="utf-8")
    if rendered(course, text) == text:
        return []
    return ["README.md is not what course.toml and nbkit/ give: python notebooks/build.py --readme"]


def readme_path(course: Course) -> Path:
    return course.folder.parent / "README.md"


def rendered(course: Course, text: str) -> str:
    """`text` with every generated part made anew. Raises ValueError for a missing marker."""
    parts = {"picture": picture(course), "course": table(course), "modules": modules(course)}
    for name, content in parts.items():
        pattern = rf"(<!-- {name}:begin[^>]*-->\n).*?(<!-- {name}:end -->)"
        text, found = re.subn(pattern, lambda m, c=content: m[1] + c + m[2], text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"README.md has {found} parts between {name}:begin and {name}:end")
    return text


def picture(course: Course) -> str:
    """The figure of the first chapter that has one (its cell is tagged `picture`)."""
    for chapter in course.written:
        path = course.picture(chapter)
        if path.exists():
            where = path.relative_to(course.folder.parent).as_posix()
            return f"[![{chapter.title}]({where})]({_where(course, chapter)})\n"
    return ""


def table(course: Course) -> str:
    rows = ["| | chapter | what you do | minutes | memory |", "|---|---|---|---|---|"]
    for chapter in course.chapters:
        title, minutes = f"{chapter.title} *(not yet written)*", ""
        if chapter.written:
            title = f"[{chapter.title}]({_where(course, chapter)})"
            minutes = str(chapter.minutes)
        cells = [chapter.number, title, chapter.summary, minutes, chapter.memory]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _where(course: Course, chapter: Chapter) -> str:
    return course.notebook(chapter).relative_to(course.folder.parent).as_posix()


def modules(course: Course) -> str:
    """One line for each module of nbkit: the first line of its docstring."""
    package = course.folder.parent / "nbkit"
    lines = []
    for path in sorted(package.iterdir()):
        init = path / "__init__.py"
        if init.exists():
            lines.append((f"{path.name}/", init))
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append((path.name, path))
    width = max(len(name) for name, _ in lines) + 2
    listed = "".join(f"  {name:<{width}}{first_line(path)}\n" for name, path in lines)
    return f"```text\nnbkit/\n{listed}```\n"


def first_line(path: Path) -> str:
    """First line of a module's docstring. Raises ValueError for a module without one."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{path.name} has no docstring: its first line stands in README.md")
    return docstring.splitlines()[0]
