"""The command line: `nbkit lab`, `nbkit tour` (also as `python -m nbkit ...`)."""

import argparse
import sys

import nbkit
from nbkit.course.starting import CannotStart


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 done, 1 cannot be done here, 2 wrong usage."""
    parser = make_parser()
    args, rest = parser.parse_known_args(arguments)
    if args.command is None:
        parser.print_help()
        return 2
    if rest and args.command != "lab":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if args.command == "lab":
            from nbkit.course.lab import lab

            return lab(rest)
        from nbkit.course.tour import tour

        tour(args.figure)
        return 0
    except CannotStart as error:
        print(f"nbkit {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nnbkit {args.command}: stopped", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "nbkit", allow_abbrev=False,
        description="Which preference pairs should a language model be trained on?",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"nbkit {nbkit.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser(
        "lab", allow_abbrev=False, usage="nbkit lab [-h] [options of jupyter lab]",
        help="open the notebooks in JupyterLab",
        description="Check the machine, and open JupyterLab on the tour. Works as root, and "
        "without a browser: the address is printed.",
        epilog="All other options go to JupyterLab, such as `--port 9999` or `--no-browser`; "
        "`jupyter lab --help` lists them.",
    )  # fmt: skip
    tour = commands.add_parser(
        "tour", allow_abbrev=False, help="take the tour in this terminal, without a browser",
        description="Load, score, select, train and judge on the world inside the package, each "
        "step with its numbers. Takes about a minute.",
    )  # fmt: skip
    tour.add_argument(
        "--figure", metavar="FILE.png", default="nbkit_tour.png",
        help="where to write the figure (default: %(default)s, in this folder)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
