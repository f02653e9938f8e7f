"""The command line: `nbkit lab`, `nbkit tour`, `nbkit course` (also as `python -m nbkit ...`)."""

import argparse
import sys
from types import ModuleType

import nbkit
from nbkit.course.errors import CommandError


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 cannot be done here, 2 wrong usage."""
    parser = make_parser()
    args, more = parser.parse_known_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    if more and args.command != "lab":
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    args.more = more
    try:
        return args.run(args)
    except CommandError as error:
        print(f"nbkit {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nnbkit {args.command}: stopped", file=sys.stderr)
        return 130


# The commands ------------------------------------------------------------------------------------


def run_lab(args: argparse.Namespace) -> int:
    from nbkit.course.lab import lab

    return lab(args.more)


def run_tour(args: argparse.Namespace) -> int:
    from nbkit.course.tour import tour

    tour(args.figure)
    return 0


def run_build(args: argparse.Namespace) -> int:
    commands = builder()
    course = commands.course_of_this_clone()
    if args.readme:
        commands.write_pages(course)
    else:
        commands.build(course, args.numbers, args.text)
    return 0


def run_check(args: argparse.Namespace) -> int:
    commands = builder()
    return commands.check(commands.course_of_this_clone())


def builder() -> ModuleType:
    """The module of these commands: it needs what otherwise only the tests need."""
    try:
        from nbkit.course.building import commands
    except ModuleNotFoundError as error:
        if str(error.name).startswith("nbkit"):
            raise
        raise CommandError(
            f'building needs {error.name}, which is not installed; run: pip install -e ".[test]"'
        ) from None
    return commands


# Their arguments ---------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "nbkit", allow_abbrev=False,
        description="Which preference pairs should a language model be trained on?",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"nbkit {nbkit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    add_lab(commands)
    add_tour(commands)
    add_course(commands)
    return parser


def add_lab(commands: "argparse._SubParsersAction") -> None:
    lab = commands.add_parser(
        "lab", allow_abbrev=False, usage="nbkit lab [-h] [options of jupyter lab]",
        help="open the notebooks in JupyterLab",
        description="Check the machine, and open JupyterLab on the list of lessons. Works as "
        "root, and without a browser: the address is printed.",
        epilog="All other options go to JupyterLab, such as `--port 9999` or `--no-browser`; "
        "`jupyter lab --help` lists them.",
    )  # fmt: skip
    lab.set_defaults(run=run_lab)


def add_tour(commands: "argparse._SubParsersAction") -> None:
    tour = commands.add_parser(
        "tour", allow_abbrev=False, help="take the tour in this terminal, without a browser",
        description="Load, score, select, train and judge on the world inside the package, each "
        "step with its numbers. Takes about a minute.",
    )  # fmt: skip
    tour.add_argument(
        "--figure", metavar="FILE.png", default="nbkit_tour.png",
        help="where to write the figure (default: %(default)s, in this folder)",
    )  # fmt: skip
    tour.set_defaults(run=run_tour)


def add_course(commands: "argparse._SubParsersAction") -> None:
    course = commands.add_parser(
        "course", allow_abbrev=False, help="for authors: build and check the notebooks",
        description="Make the notebooks from their sources in nbkit/course/lessons/. Needs "
        'pip install -e ".[test]".',
    )  # fmt: skip
    steps = course.add_subparsers(metavar="step", required=True)
    build = steps.add_parser(
        "build", allow_abbrev=False, help="run lessons and write their notebooks",
        description="Run lessons in the full profile, and write notebooks/, pictures and the "
        "generated parts of README.md. Nothing is written of a lesson that has a problem.",
    )  # fmt: skip
    build.add_argument("numbers", nargs="*", metavar="NN", help="lessons (default: all written)")
    part = build.add_mutually_exclusive_group()
    part.add_argument("--text", action="store_true", help="new prose and links, outputs kept")
    part.add_argument("--readme", action="store_true", help="only README.md and the landing page")
    build.set_defaults(run=run_build)
    check = steps.add_parser(
        "check", allow_abbrev=False, help="change nothing, name what is out of step"
    )
    check.set_defaults(run=run_check)


if __name__ == "__main__":
    sys.exit(main())
