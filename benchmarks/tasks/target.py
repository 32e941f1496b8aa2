"""``python -m benchmarks target``: seconds of training to a test accuracy on MNIST, everything compiled."""

import argparse
import contextlib
import dataclasses
import functools
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import markdown, plots, stats
from benchmarks.choices import among
from benchmarks.claims import FEWEST, Claim, Measure
from benchmarks.process import ArmError, Worker, prepare
from benchmarks.turns import Entrant, as_json, take_turns

SUMMARY = "seconds of training to a test accuracy on MNIST"


@dataclasses.dataclass(frozen=True)
class Target:
    """A recipe of jaxdl, the accuracy it has to reach, runs of each arm, and the factor over torch."""

    recipe: str
    accuracy: float
    seeds: int
    goals: Mapping[str, float] = dataclasses.field(default_factory=dict)


TARGETS = {
    "98": Target("mlp", 0.98, 10, {"cpu": 2.0, "gpu": 20.0}),
    "99": Target("cnn-short", 0.99, 5, {"cpu": 2.0, "gpu": 20.0}),
    "99.4": Target("cnn", 0.994, 5),
}
ARMS = {"jaxdl": "benchmarks.arms.jaxdl_target", "torch-eager": "benchmarks.arms.torch_target"}
EPOCH = "seconds an epoch"
Curve = Sequence[Sequence[float]]  # (seconds since the start, accuracy) of each evaluation of a run


def arguments(parser: argparse.ArgumentParser) -> None:
    """How far, and how often."""
    parser.add_argument("--targets", nargs="+", type=among("target", TARGETS), default=list(TARGETS))
    parser.add_argument("--seeds", type=int, help="runs of each arm, instead of what the target asks for")


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Target by target; yields after each seed."""
    if options.seeds is not None and options.seeds < 1:
        raise ValueError(f"--seeds: expected 1 or more, got {options.seeds}")
    for name in options.targets:
        target = TARGETS[name]
        with tempfile.TemporaryDirectory() as folder:
            facts = prepare(options, "net", Path(folder), need_mnist=not options.quick)
            result = {"task": "target", "case": name, "recipe": target.recipe, **facts}
            seeds = options.seeds or (1 if options.quick else target.seeds)
            for found in race(ARMS, target, Path(folder), seeds):
                yield result | found


def race(arms: Mapping[str, str], target: Target, folder: Path, seeds: int) -> Iterator[dict[str, Any]]:
    """The arms take turns, seed by seed; all anew, once, where an arm's epochs differ too much in length.

    Yields:
      ``arms``: the seconds of an epoch, as `benchmarks.turns` has them; ``curves``: of every run of each arm.
    """
    with contextlib.ExitStack() as stack:
        curves: dict[str, list[Curve]] = {arm: [] for arm in arms}
        contenders, out = {}, {}
        for arm, module in arms.items():
            worker = Worker(module, target.recipe, folder)
            stack.callback(worker.close)
            try:
                worker.ask("warm")
                contenders[arm] = functools.partial(_train, worker, target.accuracy, seeds, curves[arm])
            except ArmError as error:
                out[arm] = Entrant(failed=str(error))
        for entrants in take_turns(contenders, seeds):
            runs = {arm: len(entrant.samples.get(EPOCH, ())) for arm, entrant in entrants.items()}
            latest = {arm: curves[arm][len(curves[arm]) - count :] for arm, count in runs.items()}
            yield {"arms": as_json(entrants | out), "curves": latest}


def _train(worker: Worker, accuracy: float, seeds: int, curves: list[Curve]) -> dict[str, float]:
    """Trains with the next seed, and keeps the curve."""
    curves.append(worker.ask("run", len(curves) % seeds, accuracy))
    return {EPOCH: curves[-1][-1][0] / len(curves[-1])}


def tables(result: Mapping[str, Any]) -> str:
    """Seconds to the target; a run that does not reach it takes for ever."""
    target = TARGETS[result["case"]]
    head = (f"MNIST to {result['case']} %, `--recipe {target.recipe}`", "s", "IQR", "seeds that reached it")
    head += ("epochs", "s an epoch", "best", "")
    return markdown.table(head, [_row(arm, Entrant(**found), result) for arm, found in result["arms"].items()])


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """How many times sooner jaxdl is there, where every run got there."""
    found, target = measures(result), TARGETS[result["case"]]
    if not {"jaxdl", "torch-eager"} <= found.keys():
        return []
    ratio = stats.ratio(found["torch-eager"].samples, found["jaxdl"].samples)
    # The seeds may differ, the epochs of an arm may not.
    noisy = any(Entrant(**arm).noisy for arm in result["arms"].values())
    noisy = noisy or min(len(measure.samples) for measure in found.values()) < FEWEST
    what = f"MNIST to {result['case']} %, warm: time of torch-eager / jaxdl"
    return [Claim(what, ratio, target.goals.get(result["platform"]), noisy=noisy)]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """Seconds to the target of the arms whose every run reached it."""
    found = {arm: _seconds(curves, TARGETS[result["case"]].accuracy) for arm, curves in result["curves"].items()}
    return {arm: Measure(times, "s", False) for arm, times in found.items() if times and max(times) < math.inf}


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Test accuracy over the seconds of training: a line a run, a dot an evaluation, the target across."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    target = TARGETS[result["case"]].accuracy
    figure = Figure((8, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for arm, colour in zip(ARMS, (plots.AHEAD, plots.BEHIND), strict=True):
        for number, curve in enumerate(result["curves"].get(arm, ())):  # an arm that failed has none
            seconds, reached = zip(*curve, strict=True)
            share = [100 * accuracy for accuracy in reached]
            axes.plot(seconds, share, "o-", color=colour, alpha=0.6, ms=4, label="" if number else arm)
    axes.axhline(100 * target, color=plots.INK, lw=1)
    axes.set(xscale="log", xlabel="seconds of training", ylabel="test accuracy, %")
    axes.set_title(f"MNIST to {result['case']} %, --recipe {result['recipe']}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, format="png")


def _seconds(curves: Sequence[Curve], accuracy: float) -> list[float]:
    """When each run first was at the target; infinity where it never was."""
    return [next((second for second, reached in curve if reached >= accuracy), math.inf) for curve in curves]


def _row(arm: str, entrant: Entrant, result: Mapping[str, Any]) -> tuple[str, ...]:
    if entrant.failed:
        return arm, *[""] * 6, f"failed: {entrant.failed}"
    curves, target = result["curves"][arm], TARGETS[result["case"]].accuracy
    times, pace = _seconds(curves, target), stats.summary(entrant.samples[EPOCH])
    there, middle = sum(time < math.inf for time in times), float(np.median(times))
    median = f"{middle:.2f}" if middle < math.inf else "never"
    spread = f"{stats.summary(times).iqr:.2f}" if there == len(times) else ""
    epochs = f"{np.median([len(curve) for curve in curves]):g}"
    best = f"{max(reached for curve in curves for _, reached in curve):.2%}"
    remark = "noisy" if pace.noisy else ""
    return arm, median, spread, f"{there} of {len(times)}", epochs, f"{pace.median:.3f}", best, remark
