"""Measures jaxdl beside PyTorch, and draws page and pictures from what was measured."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks import compare, machine, report, results
from benchmarks.choices import among
from benchmarks.process import ArmError
from benchmarks.tasks import TASKS

OTHERS = {"compare": compare.SUMMARY, "table": "draw the page, the pictures and the table of the README"}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"benchmarks: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 1 where something failed, or got worse."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _options(words)
    try:
        if options.task == "table":
            report.draw()
            return 0
        return compare.run(options) if options.task == "compare" else measure(options, words)
    except (ArmError, ValueError, OSError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1


def measure(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Runs a task, keeps every result as soon as it is known, and prints the pages."""
    about, pages = machine.facts() | {"command": command(words)}, {}
    folder = options.out or (None if options.quick else results.FOLDER)
    for result in TASKS[options.task].run(options):
        known = result | about
        pages[results.name(known)] = report.page(known)
        if folder:
            results.save(known, folder)  # at once: a run that is cut off loses only what it was at
    print("\n\n".join(pages.values()))
    return 0


def command(words: Sequence[str]) -> str:
    """The command line as anybody can repeat it: folders are one's own."""
    shown, before = [], ""
    for word in words:
        own = next((f"{name}=FOLDER" for name in ("--data-dir", "--out") if word.startswith(f"{name}=")), word)
        shown.append("FOLDER" if before in ("--data-dir", "--out") else own)
        before = word
    return " ".join(["python -m benchmarks", *shown])


def _options(words: Sequence[str]) -> argparse.Namespace:
    names = {name: task.SUMMARY for name, task in TASKS.items()} | OTHERS
    parser = _parser(names)
    if words and not words[0].startswith("-"):
        try:
            among("task", names)(words[0])
        except argparse.ArgumentTypeError as error:
            parser.error(str(error))
    return parser.parse_args(words)


def _parser(names: Mapping[str, str]) -> Parser:
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parts = parser.add_subparsers(dest="task", required=True, metavar="TASK", parser_class=Parser)
    found = {name: parts.add_parser(name, help=summary) for name, summary in names.items()}
    for name, task in TASKS.items():
        folder = {"type": lambda text: Path(text).absolute(), "metavar": "FOLDER"}
        found[name].add_argument("--data-dir", help="the folder that holds MNIST", **folder)
        found[name].add_argument("--out", help="where results go, instead of those of the project", **folder)
        found[name].add_argument("--quick", action="store_true", help="try it out: it measures nothing")
        task.arguments(found[name])
    compare.arguments(found["compare"])
    return parser


if __name__ == "__main__":
    sys.exit(main())
