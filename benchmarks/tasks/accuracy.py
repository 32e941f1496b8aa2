"""``python -m benchmarks accuracy``: what the document's setup and the shipped recipes reach, over seeds."""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown, stats
from benchmarks.choices import among
from benchmarks.claims import Claim, Measure
from benchmarks.process import output, prepare
from jaxdl.recipes import RECIPES

SUMMARY = "test accuracy over seeds, on MNIST"
EPOCHS = 10
DOCUMENT = ["--model=net", "--optimizer=sgd", "--lr=0.01", "--batch-size=64"]
GOALS = {"mlp": 0.98, "cnn": 0.994}


def arguments(parser: argparse.ArgumentParser) -> None:
    """A recipe, or the document's setup."""
    recipes = f"instead of the document's setup: {', '.join(RECIPES)}"
    parser.add_argument("--recipe", type=among("recipe", RECIPES), metavar="NAME", help=recipes)
    parser.add_argument("--seeds", type=int, default=5)


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seed by seed."""
    least = 1 if options.recipe else 2  # one seed has no spread to compare
    if options.seeds < least:
        raise ValueError(f"--seeds: expected {least} or more, got {options.seeds}")
    with tempfile.TemporaryDirectory() as place:
        facts = prepare(options, "net", Path(place), need_mnist=True)
        epochs = 1 if options.quick else EPOCHS
        found = (
            recipe(options.recipe, options.data_dir, seeds=options.seeds)
            if options.recipe
            else document(Path(place), options.data_dir, seeds=options.seeds, epochs=epochs)
        )
        yield from ({"task": "accuracy"} | facts | known for known in found)


def document(folder: Path, data_dir: Path | None, *, seeds: int, epochs: int) -> Iterator[dict[str, Any]]:
    """The document's setup in jaxdl and in PyTorch, each with initial weights and order of its own.

    Args:
      folder: what `benchmarks.prepare` wrote.
      data_dir: where MNIST is, if not at hand.
      seeds: runs of each, taking turns.
      epochs: of each run.

    Yields:
      What is known after each seed but the first, which alone allows no comparison.
    """
    reached: dict[str, list[float]] = {"jaxdl": [], "torch": []}
    for seed in range(seeds):
        reached["jaxdl"].append(command([*DOCUMENT, f"--epochs={epochs}"], data_dir, seed)[0])
        argv = ["-m", "benchmarks.arms.torch_document", str(folder), str(seed), str(epochs)]
        reached["torch"].append(json.loads(output(argv)[1][-1])["accuracy"])
        if seed > 0:
            yield {"case": "document", "epochs": epochs, "accuracy": reached}


def recipe(name: str, data_dir: Path | None, *, seeds: int) -> Iterator[dict[str, Any]]:
    """A shipped recipe through the real command: what is known after each seed."""
    accuracies, times = [], []
    for seed in range(seeds):
        accuracy, seconds = command([f"--recipe={name}"], data_dir, seed)
        accuracies.append(accuracy)
        times.append(seconds)
        yield {"case": name, "accuracy": {"jaxdl": accuracies}, "seconds": times}


def command(options: list[str], data_dir: Path | None, seed: int) -> tuple[float, float]:
    """Test accuracy of a whole run of ``jaxdl.train`` on MNIST, and its seconds from start to exit."""
    place = [f"--data-dir={data_dir}"] if data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        argv = ["-m", "jaxdl.train", "--dataset=mnist", *place, *options, f"--seed={seed}", f"--out={out}"]
        seconds, _ = output(argv)
        return json.loads((out / "summary.json").read_text())["accuracy"], seconds


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """The difference from torch, or the accuracy of a recipe."""
    reached = result["accuracy"]
    if result["case"] == "document":
        what = f"Test accuracy of the document's setup after {result['epochs']} epochs: jaxdl - torch"
        return [Claim(what, stats.difference(reached["jaxdl"], reached["torch"]), kind="difference")]
    what = f"Test accuracy of --recipe {result['case']}, mean of {len(reached['jaxdl'])} seeds"
    return [Claim(what, stats.mean(reached["jaxdl"]), GOALS.get(result["case"]), kind="share")]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """Accuracies in per cent, and the seconds of a recipe."""
    found = {f"accuracy, {arm}": Measure(samples, "") for arm, samples in result["accuracy"].items()}
    return found | ({"whole run": Measure(result["seconds"], "s", False)} if "seconds" in result else {})


def tables(result: Mapping[str, Any]) -> str:
    """Mean and spread over the seeds."""
    rows = [(arm, *_spread(samples)) for arm, samples in result["accuracy"].items()]
    if "seconds" in result:
        title = f"test accuracy, `--recipe {result['case']}`"
        times = f"{stats.summary(result['seconds']).median:.1f}"
        head = (title, "mean", "std", "min", "max", "seeds", "s, start-up included")
        return markdown.table(head, [(*row, times) for row in rows])
    head = (
        f"test accuracy, the document's setup, {result['epochs']} epochs",
        "mean",
        "std",
        "min",
        "max",
        "seeds",
    )
    return markdown.table(head, rows)


def _spread(samples: Sequence[float]) -> tuple[str, ...]:
    mean, std = stats.mean_std(samples)
    return f"{mean:.2%}", f"{std:.2%}", f"{min(samples):.2%}", f"{max(samples):.2%}", str(len(samples))
