"""Build the course, from reviewed sources to executed notebooks; or look whether it is in step.

A source is `nbkit/course/lessons/NN_name.py` (jupytext percent format); `course.toml` gives order,
titles and links. Lines between `### BEGIN SOLUTION` and `### END SOLUTION` stay in the source; the
learner's notebook has a stub in their place. CONTRIBUTING.md says which tags cells carry.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from nbkit.course.building.assembling import assemble, landing_page
from nbkit.course.building.checks import course_problems, notebook_problems, size_problems
from nbkit.course.building.index import Course, Lesson
from nbkit.course.building.readme import write_readme
from nbkit.course.building.running import clean, execute, keep_outputs, stamp, write_picture
from nbkit.course.errors import CommandError
from nbkit.course.profiles import VARIABLE, profile

CLONE = Path(__file__).resolve().parents[3]
LIMIT = 60  # seconds a lesson should take, on two CPU cores


def course_of_this_clone() -> Course:
    """The course of the repository that nbkit runs from."""
    if not (CLONE / "notebooks").is_dir():
        raise CommandError(
            "the course is built in a clone of nbkit's repository that Python imports nbkit from; "
            'run there: pip install -e ".[test]"'
        )
    return Course.read(CLONE)


def build(course: Course, numbers: list[str], text_only: bool = False) -> None:
    """Make the notebooks of these lessons (none named: of all), and the pages that list them.

    Raises:
        CommandError: an unknown number; another profile than full; a cell that fails; a notebook
            with a problem that checks.py names. It is not written.
    """
    lessons = chosen(course, numbers)
    if not text_only:
        refuse_other_profiles()
    for lesson in lessons:
        build_lesson(course, lesson, text_only)
    write_pages(course)


def write_pages(course: Course) -> None:
    """What is made from the index alone: the landing page, and the generated parts of README.md."""
    nbformat.write(landing_page(course), course.landing)
    write_readme(course)


def check(course: Course) -> int:
    """Change nothing, print what is out of step; returns the exit status."""
    problems = course_problems(course)
    print("\n".join(problems) or "index, sources, notebooks and README.md are in step")
    return int(bool(problems))


def chosen(course: Course, numbers: list[str]) -> list[Lesson]:
    if unknown := set(numbers) - {lesson.number for lesson in course.written}:
        names = ", ".join(sorted(unknown))
        raise CommandError(f"course.toml has no written lesson {names}; expected numbers like 00")
    return [lesson for lesson in course.written if not numbers or lesson.number in numbers]


def refuse_other_profiles() -> None:
    """Kernels inherit NBKIT_PROFILE: notebooks of little data would look like the real ones."""
    try:
        name = profile().name
    except ValueError as error:
        raise CommandError(str(error)) from None
    if name != "full":
        raise CommandError(
            f"{VARIABLE} is {name}, and notebooks are built in full, as learners run them; "
            f"unset {VARIABLE}."
        )


def build_lesson(course: Course, lesson: Lesson, text_only: bool) -> None:
    """Make one lesson's notebook, and its picture where a cell asks for one."""
    path = course.notebook(lesson)
    notebook = assemble(course, lesson)
    refuse([f"{lesson.file}: {problem}" for problem in size_problems(notebook)])  # before it runs
    if text_only:
        try:
            keep_outputs(notebook, nbformat.read(path, as_version=4))
        except ValueError as error:
            raise CommandError(f"{lesson.file}: {error}") from None
    else:
        run(course, lesson, notebook)
    refuse(notebook_problems(course, lesson, notebook))
    nbformat.write(notebook, path)
    write_picture(notebook, course.picture(lesson))
    print(f"wrote {path.relative_to(course.root).as_posix()}", flush=True)


def refuse(problems: list[str]) -> None:
    if problems:
        raise CommandError("\n".join(["not written:", *problems]))


def run(course: Course, lesson: Lesson, notebook: NotebookNode) -> None:
    """Execute, clean and stamp; say what it took, and what was on stderr."""
    start = time.perf_counter()
    try:
        peak = execute(notebook, course.notebooks)
    except CellExecutionError as error:
        raise CommandError(f"{lesson.file}: not written, a cell failed.\n{error}") from None
    seconds = time.perf_counter() - start
    for line in clean(notebook):
        print(f"{lesson.file}: on stderr, not kept: {line}", file=sys.stderr)
    stamp(notebook)
    verdict = "within" if seconds <= LIMIT else "above"
    print(
        f"{lesson.file}: {seconds:.0f} s, {verdict} the limit of {LIMIT} s; {peak / 1e9:.1f} GB. "
        f"course.toml says {lesson.minutes} minutes, {lesson.memory}.",
        flush=True,
    )
