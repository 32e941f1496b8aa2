"""What a teacher was worth: a table of teacher and students, a picture of how they learned, JSON."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxdl import files, inference, tree
from jaxdl.data.sources import Source
from jaxdl.engine import figure, table
from jaxdl.engine.log import read_records
from jaxdl.inference import Trained
from jaxdl.methods import distill
from jaxdl.teachers import stored_images

COLOURS = ("#0b62a4", "#2b8a3e", "#d98200", "#6a3d9a", "#a50f15")
ALONE, TEACHER = "#7d8894", "#333a42"


@dataclasses.dataclass(frozen=True)
class Measured:
    """A teacher or a student on the test images.

    Attributes:
      name: of the row.
      parameters: of the model, or of all where there are several.
      accuracy: in [0, 1].
      loss: the cross-entropy.
      agreement: the share of images of which it says what the teacher says, right or wrong.
    """

    name: str
    parameters: int
    accuracy: float
    loss: float
    agreement: float


def report(source: Source, folder: Path, taught: Sequence[Trained], runs: Mapping[str, Path]) -> list[Measured]:
    """Measures, and writes ``distill.json`` and ``distill.png``.

    Args:
      source: the data set.
      folder: where they go.
      taught: the teacher, or several.
      runs: the students by name.
    """
    students = {name: [inference.load(run)] for name, run in runs.items()}
    generations = [one for name, [one] in students.items() if name != "student alone"]
    if len(generations) > 1:
        students["all generations together"] = generations
    asked = {"teacher" if len(taught) == 1 else f"{len(taught)} teachers": taught, **students}
    logits = {name: said(models, source) for name, models in asked.items()}
    first = next(iter(logits.values()))
    rows = [
        measure(name, sum(tree.size(one.state.params) for one in models), logits[name], first, source)
        for name, models in asked.items()
    ]
    files.write_json(folder / "distill.json", [dataclasses.asdict(row) for row in rows])
    draw(rows[0].accuracy, runs, folder / "distill.png")
    return rows


def said(models: Sequence[Trained], source: Source) -> np.ndarray:
    """The mean logits of the test images, (N, classes)."""
    ask = distill.teacher([stored_images(one) for one in models])
    return distill.answers(ask, source.test)[distill.LOGITS]


def measure(name: str, parameters: int, logits: np.ndarray, teacher: np.ndarray, source: Source) -> Measured:
    """The row of a model with these logits."""
    wide = logits.astype(np.float64)
    wide -= wide.max(1, keepdims=True)
    log_probs = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    labels, predicted = np.asarray(source.test["label"]), logits.argmax(1)
    return Measured(
        name,
        parameters,
        accuracy=float((predicted == labels).mean()),
        loss=float(-log_probs[np.arange(len(labels)), labels].mean()),
        agreement=float((predicted == teacher.argmax(1)).mean()),
    )


def shown(rows: Sequence[Measured]) -> list[str]:
    """The table, and what the teacher was worth where the student was trained alone as well."""
    titles = ("", "parameters", "accuracy", "loss", "says what the teacher says")
    cells = [
        (row.name, str(row.parameters), f"{row.accuracy:.2%}", f"{row.loss:.4f}", f"{row.agreement:.2%}")
        for row in rows
    ]
    text = table.lines(titles, cells)
    named = {row.name: row for row in rows}
    if "student alone" in named:
        gain = 100 * (named["student"].accuracy - named["student alone"].accuracy)
        text.append(f"The teacher was worth {gain:+.2f} points.")
    return text


def draw(teacher: float, runs: Mapping[str, Path], path: Path) -> None:
    """The test accuracy of the students over their epochs, and that of the teacher."""
    from matplotlib.ticker import MaxNLocator

    drawing = figure.new(8, 4)
    axes = drawing.subplots()
    figure.title(axes, "Accuracy on the test images")
    axes.axhline(100 * teacher, color=TEACHER, lw=1.2, ls="--", label=f"teacher {teacher:.2%}")
    for colour, (name, run) in zip(itertools.cycle(COLOURS), runs.items(), strict=False):
        tests = [record for record in read_records(run / "metrics.jsonl") if record["kind"] == "eval"]
        epochs, values = np.array([(record["epoch"], 100 * record["accuracy"]) for record in tests]).T
        colour = ALONE if name == "student alone" else colour
        axes.plot(epochs, values, marker="o", ms=4, color=colour, label=f"{name} {values[-1]:.2f}%")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:g}%")
    figure.frame(axes, "epoch")
    axes.legend(loc="lower right", frameon=False)
    figure.save(drawing, path)
