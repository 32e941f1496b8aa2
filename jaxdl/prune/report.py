"""What pruning cost and gained: a table and a picture of one run, or of the means of several."""

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdl import files, inference, tree
from jaxdl.config import replace
from jaxdl.data import sources
from jaxdl.data.loader import stored_order
from jaxdl.data.sources import Source
from jaxdl.engine import figure, parallel, table, timing, weights
from jaxdl.engine import metrics as averages
from jaxdl.engine.metrics import spread
from jaxdl.engine.run_folder import read_config
from jaxdl.inference import Trained
from jaxdl.methods.prune import masks
from jaxdl.methods.prune.plan import Plan, natively
from jaxdl.prune.options import PROG, PruneConfig, amount_of
from jaxdl.prune.technique import plan_of, state_dict

PACKED = "packed.safetensors"
SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
# What is drawn beside the result: pruning without further training.
CONTROLS = {
    "units": {"smallest norms": Plan("units"), "random": Plan("units", criterion="random")},
    "weights": {
        "smallest of all": Plan("weights"),
        "smallest of each layer": Plan("weights", scope="layer"),
        "random": Plan("weights", criterion="random"),
    },
}
PALE = ("#d98200", "#7d8894", "#a50f15")
STRONG = ("#0b62a4", "#2b8a3e", "#6a3d9a", figure.INK)
TITLES = ("", "accuracy", "sparsity", "parameters", "bytes", "packed", "us/image")

Curves = Mapping[str, list[list[float]]]  # name -> pairs of share and accuracy
Report = dict[str, Any]


def report(out: Path) -> None:
    """Measures the pruned run in ``out``; prints and draws, and writes ``prune.json`` and the packed weights."""
    recorded = read_config(out)
    config = replace(PruneConfig(), recorded["options"] | recorded["technique"])
    run, amount = config.prune.run or Path(), amount_of(config.prune)
    kind = "units" if config.prune.structure == "units" else "weights"
    dense, left = inference.load(run), inference.load(out)
    source = sources.load(config.data.dataset or "mnist", config.data.data_dir)
    before, after = run / "weights.safetensors", out / "weights.safetensors"
    packed = inference.pack(out / PACKED, left.config, left.seen, weights.read(after))
    known: Report = {
        "what": described(config),
        "amount": amount,
        "kind": kind,
        "dense": measured(dense, before, dense, source) | {"packed": before.stat().st_size},
        "pruned": measured(left, after, dense, source) | {"packed": packed},
        "before_training": right_after(dense, plan_of(config), (amount,), source)[0][1],
        "curves": {name: right_after(dense, plan, SHARES, source) for name, plan in CONTROLS[kind].items()},
    }
    files.write_json(out / "prune.json", known)
    show({"dense": [known["dense"]], f"{known['what']}, {amount:.0%}": [known["pruned"]]})
    print(f"right after pruning, before training: {known['before_training']:.2%}")
    draw(known["dense"]["accuracy"], known["curves"], trained_points([known]), kind, out / "prune.png")


def compare(runs: Sequence[Path], out: Path | None) -> int:
    """Prints and draws the means over runs that differ in nothing but their seeds, and writes them to ``out``.

    Raises:
      FileNotFoundError, ValueError: a run without a report, units beside weights, or no folder to write to.
    """
    if out is None:
        raise ValueError("--compare writes prune.json and prune.png; say where: --out FOLDER")
    reports = [read(run) for run in runs]
    if len({known["kind"] for known in reports}) > 1:
        raise ValueError("shares of units and of weights are not the same: compare them apart")
    groups: dict[str, list[Report]] = {}
    for known in reports:
        groups.setdefault(f"{known['what']}, {known['amount']:.0%}", []).append(known)
    rows = {"dense": [known["dense"] for known in reports]}
    rows |= {name: [known["pruned"] for known in group] for name, group in groups.items()}
    show(rows)
    for name, group in groups.items():
        points = spread([100 * (known["pruned"]["accuracy"] - known["dense"]["accuracy"]) for known in group])
        print(f"{name}: {points.mean:+.2f} points, mean of {points.n}")
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "prune.json", {"runs": [str(run) for run in runs], "rows": rows})
    dense, kind = statistics.mean(row["accuracy"] for row in rows["dense"]), reports[0]["kind"]
    draw(dense, mean_curves(reports), trained_points(reports), kind, out / "prune.png")
    return 0


def trained_points(reports: Sequence[Report]) -> Curves:
    """For each way of pruning the mean accuracy after training further, by amount."""
    found: dict[str, dict[float, list[float]]] = {}
    for known in reports:
        amounts = found.setdefault(f"{known['what']}, trained further", {})
        amounts.setdefault(known["amount"], []).append(known["pruned"]["accuracy"])
    return {
        name: [[amount, statistics.mean(values)] for amount, values in amounts.items()]
        for name, amounts in found.items()
    }


def described(config: PruneConfig) -> str:
    """What was pruned, in a few words."""
    options = config.prune
    parts = {"units": ["units"], "2:4": ["2:4"], "weights": ["weights", options.scope]}[options.structure]
    return ", ".join([*parts, *(["random"] if options.criterion == "random" else [])])


def measured(model: Trained, weights: Path, dense: Trained, source: Source) -> dict[str, float]:
    """What a model gives and takes.

    Args:
      model: the model.
      weights: its file, whose size ``bytes`` is.
      dense: the model before pruning; ``sparsity`` is the share of its weights that are 0 or gone.
      source: ``accuracy`` is that on its test images, ``latency`` the microseconds that one of them takes.
    """
    params, before = state_dict(model), state_dict(dense)
    every = sum(before[name].size for name in before if name.endswith("weight"))
    others = sum(np.count_nonzero(params[name]) for name in params if name.endswith("weight"))
    return {
        "accuracy": model.evaluate(source)["accuracy"],
        "sparsity": 1 - others / every,
        "parameters": tree.size(params),
        "bytes": weights.stat().st_size,
        "latency": 1e6 * timing.seconds(model.predict, source.test["image"]),
    }


def right_after(dense: Trained, plan: Plan, shares: Sequence[float], source: Source) -> list[list[float]]:
    """Pairs of share and accuracy of the dense model with so much pruned, not trained further."""
    name, params = dense.config.model.model, dense.state.params
    find = natively(dense.model, plan.find(name, state_dict(dense), shares))
    evaluate = parallel.evaluator(
        dense.eval_step, stored_order(source.test), parallel.make_mesh(parallel.first_devices(1))
    )

    def accuracy(place: int) -> float:
        state = dataclasses.replace(dense.state, params=masks.apply(params, find(params, jnp.int32(place))))
        return averages.means(averages.host_total(evaluate(state)))["accuracy"]

    return [[share, accuracy(place)] for place, share in enumerate(shares)]


def show(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Prints the means of each row, and the standard deviation of the accuracy where there are several."""
    lines = []
    for name, members in rows.items():
        means = {key: statistics.mean(member[key] for member in members) for key in members[0]}
        found = spread([member["accuracy"] for member in members])
        accuracy = f"{found.mean:.2%}" + (f" ± {100 * found.std:.2f}" if found.n > 1 else "")
        sizes = (f"{means[key]:.0f}" for key in ("parameters", "bytes", "packed", "latency"))
        lines.append([name, accuracy, f"{means['sparsity']:.2%}", *sizes])
    print("\n".join(table.lines(TITLES, lines)))


def read(run: Path) -> Report:
    """The report of a pruned run.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    path = run / "prune.json"
    return files.read_json(path, f"no report at {path}: expected a run of {PROG} that has ended")


def mean_curves(reports: Sequence[Report]) -> Curves:
    """The means over runs, point by point."""
    return {
        name: np.mean([known["curves"][name] for known in reports], axis=0).tolist()
        for name in reports[0]["curves"]
    }


def draw(dense: float, curves: Curves, trained: Curves, kind: str, path: Path) -> None:
    """Accuracy against what is pruned, as a PNG.

    Args:
      dense: accuracy before pruning, in [0, 1].
      curves: right after pruning.
      trained: after training further.
      kind: of what there are shares, units or weights.
      path: the file, written atomically.
    """
    drawing = figure.new(8, 4.5)
    axes = drawing.subplots()
    axes.axhline(100 * dense, color=figure.INK, lw=1, ls=":", label=f"before pruning {dense:.2%}")
    for colours, style, group in ((PALE, "-", curves), (STRONG, "o-", trained)):
        for colour, (name, points) in zip(itertools.cycle(colours), group.items(), strict=False):
            shares, accuracies = 100 * np.array(sorted(points)).T
            axes.plot(shares, accuracies, style, color=colour, lw=1.4, label=name)
    for share, accuracy in (point for points in trained.values() for point in points):
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        place = (100 * share, 100 * accuracy)
        axes.annotate(f"{accuracy:.2%}", place, (0, -18), textcoords="offset points", ha="center", bbox=box)
    axes.xaxis.set_major_formatter("{x:g}%")
    axes.yaxis.set_major_formatter("{x:g}%")
    figure.frame(axes, f"share of the {kind} that is pruned")
    figure.title(axes, "Accuracy on test images")
    axes.legend(frameon=False, loc="lower left")
    figure.save(drawing, path)
