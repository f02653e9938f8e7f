"""The index of the course, `course.toml`: its lessons in order, and where their parts lie."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

LATER = {"minutes", "memory", "written"}  # of a lesson: they come with its source


@dataclass(frozen=True)
class Lesson:
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
    """The folder of the repository, and the lessons in order."""

    root: Path
    lessons: tuple[Lesson, ...]

    @classmethod
    def read(cls, root: Path) -> "Course":
        """The course of a repository. Raises ValueError for a key that is missing or unknown."""
        text = (sources(root) / "course.toml").read_text(encoding="utf-8")
        entries = tomllib.loads(text)["lesson"]
        known = {field.name for field in fields(Lesson)}
        for entry in entries:
            if wrong := (set(entry) ^ known) - LATER:
                names = ", ".join(sorted(wrong))
                raise ValueError(
                    f"course.toml, lesson {entry.get('number')}: {names} is missing or unknown"
                )
        return cls(root, tuple(Lesson(**entry) for entry in entries))

    @property
    def written(self) -> list[Lesson]:
        return [lesson for lesson in self.lessons if lesson.written]

    @property
    def sources(self) -> Path:
        return sources(self.root)

    @property
    def notebooks(self) -> Path:
        return self.root / "notebooks"

    @property
    def landing(self) -> Path:
        return self.notebooks / "index.ipynb"

    @property
    def readme(self) -> Path:
        return self.root / "README.md"

    def source(self, lesson: Lesson) -> Path:
        return self.sources / f"{lesson.file}.py"

    def notebook(self, lesson: Lesson) -> Path:
        return self.notebooks / f"{lesson.file}.ipynb"

    def picture(self, lesson: Lesson) -> Path:
        return self.root / "docs" / "images" / f"{lesson.file}.png"


def sources(root: Path) -> Path:
    return root / "nbkit" / "course" / "lessons"


def table(course: Course, start: Path) -> str:
    """All lessons as a Markdown table, with links from a file in the folder `start`."""
    rows = ["| | lesson | what you do | minutes | memory |", "|---|---|---|---|---|"]
    for lesson in course.lessons:
        title, minutes = f"{lesson.title} *(not yet written)*", ""
        if lesson.written:
            where = course.notebook(lesson).relative_to(start).as_posix()
            title, minutes = f"[{lesson.title}]({where})", str(lesson.minutes)
        cells = [lesson.number, title, lesson.summary, minutes, lesson.memory]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
