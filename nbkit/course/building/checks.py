"""What a committed notebook may hold, and what keeps index, sources, notebooks and README in step.

Every check returns a list of sentences; an empty list is a pass.
"""

import re
from collections.abc import Iterator
from statistics import median

import nbformat
from nbformat import NotebookNode

from nbkit.course.building.assembling import BEGIN, METADATA, assemble, landing_page
from nbkit.course.building.index import Course, Lesson
from nbkit.course.building.readme import readme_problems
from nbkit.course.building.running import is_noise, outputs_hash

MOST_LINES, MEDIAN_LINES, SETUP_LINES = 25, 8, 8
MACHINE_PATH = re.compile(
    r"(?<![\w.~])/(?:home|root|Users|tmp|var|usr|opt|mnt|work|private|content)/[\w.\-]+"
    r"|\b[A-Z]:\\+(?:Users|Windows|Program)"
)
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")


def course_problems(course: Course) -> list[str]:
    """Everything that is out of step in the course."""
    found = listing_problems(course) + landing_problems(course) + readme_problems(course)
    for lesson in course.written:
        if course.source(lesson).exists() and course.notebook(lesson).exists():
            notebook = nbformat.read(course.notebook(lesson), as_version=4)
            found += notebook_problems(course, lesson, notebook)
    return found


def listing_problems(course: Course) -> list[str]:
    """Index against files, both ways."""
    written = {lesson.file for lesson in course.written}
    sources = {path.stem for path in course.sources.glob("*.py")}
    notebooks = {path.stem for path in course.notebooks.glob("*.ipynb") if path != course.landing}
    found = [f"{name}: written in course.toml, no source {name}.py" for name in written - sources]
    found += [f"{name}: written in course.toml, no {name}.ipynb" for name in written - notebooks]
    for name in (sources | notebooks) - written:
        found.append(f"{name}: a file, but course.toml has no written lesson of that name")
    numbers = [lesson.number for lesson in course.lessons]
    if numbers != [f"{i:02d}" for i in range(len(numbers))]:
        found.append(f"course.toml: numbers are {numbers}, expected 00, 01, ... in order")
    for lesson in course.lessons:
        if not lesson.file.startswith(f"{lesson.number}_"):
            found.append(f"course.toml: file {lesson.file} does not begin with {lesson.number}_")
        if not lesson.title.endswith("?"):
            found.append(f"course.toml: title {lesson.title!r} is not a question")
        if lesson.written and not (lesson.minutes and lesson.memory):
            found.append(f"course.toml: {lesson.file} is written, minutes or memory is missing")
    return sorted(found)


def landing_problems(course: Course) -> list[str]:
    """The landing page is what index.md and course.toml give."""
    if course.landing.exists():
        if nbformat.read(course.landing, as_version=4) == landing_page(course):
            return []
    return [f"{course.landing.name} is not what its source gives: nbkit course build --readme"]


def notebook_problems(course: Course, lesson: Lesson, notebook: NotebookNode) -> list[str]:
    """Everything that is wrong in one executed notebook."""
    found = step_problems(course, lesson, notebook) + profile_problems(notebook)
    found += size_problems(notebook) + output_problems(notebook)
    found += exercise_problems(course, lesson, notebook)
    return [f"{lesson.file}: {problem}" for problem in found]


def step_problems(course: Course, lesson: Lesson, notebook: NotebookNode) -> list[str]:
    """Cells and metadata are what the source gives, and no more."""
    expected = assemble(course, lesson)
    found = []
    metadata = {key: value for key, value in notebook.metadata.items() if key != "nbkit"}
    if metadata != METADATA:
        extra = sorted(set(metadata) - set(METADATA)) or "other values"
        found.append(f"notebook metadata holds {extra}, expected kernelspec and language only")
    if len(notebook.cells) != len(expected.cells):
        found.append(f"{len(notebook.cells)} cells, its source gives {len(expected.cells)}")
    for at, (cell, wanted) in enumerate(zip(notebook.cells, expected.cells, strict=False)):
        parts = [p for p in ("cell_type", "source", "id", "metadata") if cell[p] != wanted[p]]
        if parts:
            found.append(
                f"cell {at} is not what the source gives: {', '.join(parts)} differ; "
                f"run nbkit course build {lesson.number} (prose alone: --text)"
            )
            break  # a cell too many or too few shifts all that follow
    return found


def profile_problems(notebook: NotebookNode) -> list[str]:
    """The outputs are those of the builder, in the full profile."""
    stamp = notebook.metadata.get("nbkit", {})
    profile = stamp.get("profile", "an unknown")
    if profile != "full":
        return [f"run in {profile} profile, expected full: nbkit course build NN"]
    if stamp.get("outputs") != outputs_hash(notebook):
        return ["outputs are not those it was built with: nbkit course build NN"]
    return []


def size_problems(notebook: NotebookNode) -> list[str]:
    """One idea a cell: short cells, and a set-up that is quickly read."""
    code = [(at, cell) for at, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    lengths = [len(cell.source.splitlines()) for _, cell in code]
    found = [
        f"cell {at}: {length} lines, at most {MOST_LINES}"
        for (at, _), length in zip(code, lengths, strict=True)
        if length > MOST_LINES
    ]
    found += [f"cell {at}: empty code cell" for at, cell in code if not cell.source.strip()]
    if lengths and median(lengths) > MEDIAN_LINES:
        found.append(f"median code cell has {median(lengths)} lines, at most {MEDIAN_LINES}")
    if not code or "setup" not in code[0][1].metadata.get("tags", []):
        found.append("the first code cell is not tagged `setup`")
    elif lengths[0] > SETUP_LINES:
        found.append(f"the set-up cell has {lengths[0]} lines, at most {SETUP_LINES}")
    return found


def output_problems(notebook: NotebookNode) -> list[str]:
    """Run once, top to bottom, without errors and without traces of a machine."""
    found = []
    runs = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if runs != list(range(1, len(runs) + 1)):
        found.append(f"not run once from top to bottom: execution counts {runs}")
    for at, cell in enumerate(notebook.cells):
        for what, text in _texts(cell):
            for name, pattern in (("machine path", MACHINE_PATH), ("memory address", ADDRESS)):
                match = pattern.search(text)
                if match:
                    found.append(f"cell {at}: {what} has a {name}: {match.group()!r}")
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                found.append(f"cell {at}: error output {output.ename}")
            if is_noise(output):
                found.append(f"cell {at}: stderr, widget or progress bar in the output")
    return found


def exercise_problems(course: Course, lesson: Lesson, notebook: NotebookNode) -> list[str]:
    """Each exercise is followed by its check, which says "not attempted" to an untouched stub."""
    solved = assemble(course, lesson, solved=True).cells
    exercises = [at for at, cell in enumerate(solved) if BEGIN in cell.source]
    checks = [at for at, cell in enumerate(solved) if "check" in cell.metadata.get("tags", [])]
    found = []
    for at in exercises:
        later = [check for check in checks if check > at]
        between = [exercise for exercise in exercises if later and at < exercise < later[0]]
        if not later or between:
            found.append(f'cell {at}: exercise without a check after it: `# %% tags=["check"]`')
    for at in checks:
        texts = [text for cell in notebook.cells[at : at + 1] for text in _texts(cell)]
        shown = " ".join(text for what, text in texts if what == "output")
        if "not attempted" not in shown.lower():
            found.append(f"cell {at}: check of an untouched stub does not say 'not attempted'")
    return found


def _texts(cell: NotebookNode) -> Iterator[tuple[str, str]]:
    """(what, text) of a cell's source and of every output that is text."""
    yield "source", cell.get("source", "")
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield "output", output.text
        elif output.output_type == "error":
            yield "output", "\n".join(output.traceback)
        else:
            for kind, data in output.data.items():
                if not kind.startswith("image/") or kind == "image/svg+xml":
                    yield "output", str(data)
