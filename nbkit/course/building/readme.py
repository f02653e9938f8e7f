"""The generated parts of README.md: the picture, the table of lessons, what is where in nbkit/.

Each stands between `<!-- NAME:begin ... -->` and `<!-- NAME:end -->`.
"""

import ast
import inspect
import re
from pathlib import Path

from nbkit.course.building.index import Course, table


def write_readme(course: Course) -> None:
    text = rendered(course, course.readme.read_text(encoding="utf-8"))
    course.readme.write_text(text, encoding="utf-8", newline="\n")


def readme_problems(course: Course) -> list[str]:
    """Says when a generated part is out of date."""
    text = course.readme.read_text(encoding="utf-8")
    if rendered(course, text) == text:
        return []
    return ["README.md is not what course.toml and nbkit/ give: nbkit course build --readme"]


def rendered(course: Course, text: str) -> str:
    """`text` with every generated part made anew. Raises ValueError for a missing marker."""
    parts = {
        "picture": picture(course),
        "course": table(course, course.root),
        "modules": modules(course.root),
    }
    for name, content in parts.items():
        pattern = rf"(<!-- {name}:begin[^>]*-->\n).*?(<!-- {name}:end -->)"
        literal = content.replace("\\", r"\\")
        text, found = re.subn(pattern, rf"\g<1>{literal}\g<2>", text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"README.md has {found} parts between {name}:begin and {name}:end")
    return text


def picture(course: Course) -> str:
    """The figure of the first lesson that has one (its cell is tagged `picture`)."""
    for lesson in course.written:
        path = course.picture(lesson)
        if path.exists():
            image, notebook = (
                p.relative_to(course.root).as_posix() for p in (path, course.notebook(lesson))
            )
            return f"[![{lesson.title}]({image})]({notebook})\n"
    return ""


# What is where -----------------------------------------------------------------------------------


def modules(root: Path) -> str:
    """Kit, experiments and course, each from the ground up: what is in nbkit/, a line each."""
    package = root / "nbkit"
    kit = [path for path in package_parts(root) if path.name not in ("experiments", "course")]
    top = package / "__main__.py"
    lines = [
        "The kit: score, select, train, judge, show",
        *indented(described([path for path in kit if path != top])),
        "Experiments with it: many models are trained, and compared",
        "  experiments/",
        *indented(files_listed(package / "experiments"), 4),
        "The course, on top of both",
        "  course/",
        *indented(files_listed(package / "course"), 4),
        *indented(described([top])),
    ]
    return "\n".join(["```text", "nbkit/", *indented(lines), "```", ""])


def package_parts(root: Path) -> list[Path]:
    """The modules and folders of nbkit/, in the order of the rooms in tests/test_house.py."""
    rooms = [room.partition("/")[0] for room in rooms_of_the_house(root)]
    parts = [
        path
        for path in sorted((root / "nbkit").iterdir())
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    known = [path for path in parts if path.name in rooms and path.name != "__init__.py"]
    return sorted(known, key=lambda path: rooms.index(path.name))


def rooms_of_the_house(root: Path) -> list[str]:
    """The list ROOMS of tests/test_house.py, which is not imported here: it is a test."""
    tree = ast.parse((root / "tests" / "test_house.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            return ast.literal_eval(node.value)
    raise ValueError("tests/test_house.py has no list ROOMS: what is where follows its order")


def described(paths: list[Path]) -> list[str]:
    """Each module or folder with the first line of its docstring."""
    names = [f"{path.name}/" if path.is_dir() else path.name for path in paths]
    width = max(map(len, names), default=0)
    return [
        f"{name:<{width}}  {docstring(path).splitlines()[0]}"
        for name, path in zip(names, paths, strict=True)
    ]


def files_listed(folder: Path) -> list[str]:
    """The lines under `Files::` in a folder's docstring; tests/test_registered.py holds them."""
    _, _, listed = docstring(folder).partition("Files::\n\n")
    return inspect.cleandoc(listed.partition("\n\n")[0]).splitlines()


def docstring(path: Path) -> str:
    """A module's docstring, or a folder's. Raises ValueError for one without."""
    file = path / "__init__.py" if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{path.name} has no docstring: its first line stands in README.md")
    return text


def indented(lines: list[str], by: int = 2) -> list[str]:
    return [" " * by + line for line in lines]
