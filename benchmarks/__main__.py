"""Measures jaxdl beside PyTorch, and draws the tables of the README from what was measured."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import accuracy, report, startup, train
from benchmarks.arms import ARMS
from benchmarks.process import ArmError, output
from benchmarks.workloads import WORKLOADS

QUICK = 1000  # training images of a trial


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    try:
        if options.task == "table":
            report.update(report.load())
            return 0
        about, pages = report.machine() | {"command": command(words)}, {}
        for result in TASKS[options.task](options):
            known = result | about
            pages[report.name(known)] = report.page(known)
            if not options.quick:
                report.save(known)  # after each race or seed: a run that is cut off loses only the one it was at
        print("\n\n".join(pages.values()))
    except (ArmError, ValueError, OSError) as error:
        print(f"benchmarks: error: {error}", file=sys.stderr)
        return 1
    return 0


def command(words: Sequence[str]) -> str:
    """The command line as anybody can repeat it: the folder of the data is one's own."""
    shown, before = [], ""
    for word in words:
        own = "--data-dir=FOLDER" if word.startswith("--data-dir=") else word
        shown.append("FOLDER" if before == "--data-dir" else own)
        before = word
    return " ".join(["python -m benchmarks", *shown])


def prepare(
    options: argparse.Namespace, workload: str, folder: Path, *, need_mnist: bool = False
) -> dict[str, Any]:
    """Runs `benchmarks.prepare` and returns what it says of data and device."""
    argv = ["-m", "benchmarks.prepare", workload, str(folder)]
    argv += [f"--data-dir={options.data_dir}"] if options.data_dir else []
    argv += [f"--examples={QUICK}"] if options.quick and not need_mnist else []
    argv += ["--need-mnist"] if need_mnist else []
    return json.loads(output(argv)[1][-1])


def _train(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    arms = {name: ARMS[name] for name in options.arms}
    yield from train.run(
        arms, options.workloads, lambda name, folder: prepare(options, name, folder), quick=options.quick
    )


def _startup(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        facts = prepare(options, "net", Path(folder))
        rounds = 1 if options.quick else startup.ROUNDS
        yield facts | startup.run(Path(folder), options.data_dir, rounds=rounds)


def _accuracy(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    least = 1 if options.recipe else 2  # one seed has no spread to compare
    if options.seeds < least:
        raise ValueError(f"--seeds: expected {least} or more, got {options.seeds}")
    with tempfile.TemporaryDirectory() as folder:
        facts = prepare(options, "net", Path(folder), need_mnist=True)
        epochs = 1 if options.quick else accuracy.EPOCHS
        found = (
            accuracy.recipe(options.recipe, options.data_dir, seeds=options.seeds)
            if options.recipe
            else accuracy.document(Path(folder), options.data_dir, seeds=options.seeds, epochs=epochs)
        )
        yield from (facts | known for known in found)


TASKS = {"train": _train, "startup": _startup, "accuracy": _accuracy}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    parts = {
        "train": tasks.add_parser("train", help="steps a second of training"),
        "startup": tasks.add_parser("startup", help="seconds to the first finished step"),
        "accuracy": tasks.add_parser("accuracy", help="test accuracy over seeds, on MNIST"),
    }
    tasks.add_parser("table", help="draw the tables of the README from the results")
    for part in parts.values():
        part.add_argument(
            "--data-dir", type=lambda text: Path(text).absolute(), help="the folder that holds MNIST"
        )
        part.add_argument("--quick", action="store_true", help="try it out: measures nothing, keeps nothing")
    parts["train"].add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parts["train"].add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parts["accuracy"].add_argument("--recipe", choices=("mlp", "cnn"), help="instead of the document's setup")
    parts["accuracy"].add_argument("--seeds", type=int, default=5)
    return parser


if __name__ == "__main__":
    sys.exit(main())
