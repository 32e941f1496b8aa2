"""``python -m benchmarks accuracy``: what the document's setup and the shipped recipes reach, over seeds."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.process import output

EPOCHS = 10
DOCUMENT = ["--model=net", "--optimizer=sgd", "--lr=0.01", "--batch-size=64"]


def document(folder: Path, data_dir: Path | None, *, seeds: int, epochs: int = EPOCHS) -> Iterator[dict[str, Any]]:
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
            yield {"kind": "accuracy", "epochs": epochs, "accuracy": reached}


def recipe(name: str, data_dir: Path | None, *, seeds: int) -> Iterator[dict[str, Any]]:
    """A shipped recipe through the real command: what is known after each seed."""
    accuracies, times = [], []
    for seed in range(seeds):
        accuracy, seconds = command([f"--recipe={name}"], data_dir, seed)
        accuracies.append(accuracy)
        times.append(seconds)
        yield {"kind": "recipe", "recipe": name, "accuracy": accuracies, "seconds": times}


def command(options: list[str], data_dir: Path | None, seed: int) -> tuple[float, float]:
    """Test accuracy of a whole run of ``jaxdl.train`` on MNIST, and its seconds from start to exit."""
    place = [f"--data-dir={data_dir}"] if data_dir else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        argv = ["-m", "jaxdl.train", "--dataset=mnist", *place, *options, f"--seed={seed}", f"--out={out}"]
        seconds, _ = output(argv)
        return json.loads((out / "summary.json").read_text())["accuracy"], seconds
