"""Build the course: reviewed sources in, executed notebooks out.

    python notebooks/build.py               every written chapter, then README.md
    python notebooks/build.py 01 02         these chapters, then README.md
    python notebooks/build.py --text        prose and links anew, outputs kept (no code changed)
    python notebooks/build.py --readme      only the generated parts of README.md
    python notebooks/build.py --check       change nothing, name what is out of step

A source is `src/NN_name.py` (jupytext percent format); `course.toml` gives order, titles and
links. Lines between `### BEGIN SOLUTION` and `### END SOLUTION` stay in the source; the learner's
notebook has a stub in their place. CONTRIBUTING.md says which tags cells carry.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat

from nbkit.course.building.chapters import Chapter, Course, assemble
from nbkit.course.building.checks import course_problems, notebook_problems
from nbkit.course.building.readme import write_readme
from nbkit.course.building.run import clean, execute, keep_outputs, write_picture


def build(course: Course, chapter: Chapter, text_only: bool = False) -> None:
    """Make one chapter's notebook, and its picture where a cell asks for one.

    Raises SystemExit, and writes nothing, when the notebook has a problem that checks.py names.
    """
    path = course.notebook(chapter)
    notebook = assemble(course, chapter)
    if text_only:
        try:
            keep_outputs(notebook, nbformat.read(path, as_version=4))
        except ValueError as error:
            raise SystemExit(f"{chapter.file}: {error}") from None
    else:
        run(course, chapter, notebook)
    problems = notebook_problems(course, chapter, notebook)
    if problems:
        raise SystemExit("\n".join(["not written:", *problems]))
    nbformat.write(notebook, path)
    write_picture(notebook, course.picture(chapter))


def run(course: Course, chapter: Chapter, notebook) -> None:
    """Execute and clean; say what it took, and what was on stderr."""
    start = time.perf_counter()
    peak = execute(notebook, course.folder)
    minutes = (time.perf_counter() - start) / 60
    for line in clean(notebook):
        print(f"{chapter.file}: on stderr, not kept: {line}", file=sys.stderr)
    print(
        f"{chapter.file}: {minutes:.1f} minutes, {peak / 1e9:.1f} GB; "
        f"course.toml says {chapter.minutes} minutes, {chapter.memory}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the course's notebooks.")
    parser.add_argument("numbers", nargs="*", metavar="NN", help="chapters (default: all written)")
    parser.add_argument("--text", action="store_true", help="new prose and links, outputs kept")
    parser.add_argument("--readme", action="store_true", help="only README.md")
    parser.add_argument("--check", action="store_true", help="change nothing, name problems")
    options = parser.parse_args()
    course = Course.read(Path(__file__).resolve().parent)
    unknown = set(options.numbers) - {chapter.number for chapter in course.chapters}
    if unknown:
        parser.error(f"course.toml has no chapter {', '.join(sorted(unknown))}")
    if options.check:
        problems = course_problems(course)
        print("\n".join(problems) or "index, sources, notebooks and README.md are in step")
        return int(bool(problems))
    if not options.readme:
        os.environ.setdefault("NBKIT_PROFILE", "full")
        chosen = [chapter for chapter in course.chapters if chapter.number in options.numbers]
        for chapter in chosen or course.written:
            build(course, chapter, options.text)
    write_readme(course)
    return 0


if __name__ == "__main__":
    sys.exit(main())
