"""What policies have reached: a table over the seeds, ``reinforce.json`` and the curves of their returns."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.engine import figure, table
from jaxdl.engine.log import read_records
from jaxdl.engine.metrics import spread

MEAN, EACH, GOAL = "#0b62a4", "#9fb8cf", "#d98200"

Curve = tuple[np.ndarray, np.ndarray]  # environment steps, and the mean return of the episodes that ended


def report(env: str, folder: Path, seeds: Sequence[int], threshold: float | None) -> str:
    """Writes ``reinforce.json`` and ``returns.png`` and returns the table.

    Args:
      env: the environment's name.
      folder: of the command.
      seeds: whose folders are in it.
      threshold: the mean return from which on the environment counts as solved.
    """
    curves = [curve(folder / f"seed-{seed}" / "metrics.jsonl") for seed in seeds]
    rows: list[dict[str, Any]] = [
        summary(folder, seed) | {"solved_after": solved_after(own, threshold)}
        for seed, own in zip(seeds, curves, strict=True)
    ]
    greedy = [row["greedy_return"] for row in rows]
    found = {
        "env": env,
        "threshold": threshold,
        "greedy_return": spread(greedy).known(),
        "seeds": rows,
    }
    files.write_json(folder / "reinforce.json", found)
    draw(env, curves, threshold, folder / "returns.png")
    return "\n".join([*shown(rows), verdict(greedy, threshold), f"curves: {folder / 'returns.png'}"])  # pyright: ignore[reportArgumentType]


def summary(folder: Path, seed: int) -> dict[str, Any]:
    """What the training with this seed has reached."""
    return json.loads((folder / f"seed-{seed}" / "summary.json").read_text())


def curve(metrics: Path) -> Curve:
    """The returns of a training over its environment steps; updates in which no episode ended are left out."""
    records = read_records(metrics)
    steps = np.cumsum([record["env_steps"] for record in records])
    returns = np.asarray([record.get("return", math.nan) for record in records], float)
    known = np.isfinite(returns)
    return steps[known], returns[known]


def solved_after(own: Curve, threshold: float | None) -> int | None:
    """The environment steps after which the mean training return first reached the threshold."""
    steps, returns = own
    reached = np.flatnonzero(returns >= (math.inf if threshold is None else threshold))
    return int(steps[reached[0]]) if len(reached) else None


def shown(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table, a row a seed."""
    titles = ("seed", "greedy return", "std", "lowest", "steps", "training solved after", "steps/s")
    cells = [
        (
            str(row["seed"]),
            f"{row['greedy_return']:.1f}",
            f"{row['greedy_std']:.1f}",
            f"{row['greedy_lowest']:.1f}",
            f"{row['env_steps']:,.0f}",
            "-" if row["solved_after"] is None else f"{row['solved_after']:,}",
            "-" if row["env_steps_per_second"] is None else f"{row['env_steps_per_second']:,.0f}",
        )
        for row in rows
    ]
    return table.lines(titles, cells)


def verdict(greedy: Sequence[float], threshold: float | None) -> str:
    """The mean over the seeds, and whether all of them solve the environment."""
    found = spread(greedy)
    std = f" (std {found.std:.1f})" if found.n > 1 else ""
    text = f"Greedy return, mean of {found.n} seeds: {found.mean:.1f}{std}"
    if threshold is None:
        return text
    count = sum(value >= threshold for value in greedy)
    return f"{text}; solved (at least {threshold:g}) by {count} of {len(greedy)}"


def draw(env: str, curves: Sequence[Curve], threshold: float | None, path: Path) -> None:
    """Writes a PNG of 800 x 420 pixels: each seed's curve, and their mean with its standard deviation."""
    drawing = figure.new(8, 4.2)
    axes = drawing.subplots()
    for number, (steps, returns) in enumerate(curves):
        axes.plot(steps, returns, color=EACH, lw=0.9, label=None if number else "a seed")
    curves = [own for own in curves if len(own[0])]
    if curves:
        low, high = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
        at = np.linspace(low, high, 200)
        values = np.stack([np.interp(at, steps, returns) for steps, returns in curves])
        mean, std = values.mean(0), values.std(0)
        axes.fill_between(at, mean - std, mean + std, color=MEAN, alpha=0.15, lw=0)
        axes.plot(at, mean, color=MEAN, lw=2, label=f"mean of {len(curves)} seeds, ± standard deviation")
    if threshold is not None:
        axes.axhline(threshold, color=GOAL, lw=1.2, ls="--", label=f"solved: {threshold:g}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}M")
    figure.frame(axes, "environment steps")
    figure.title(axes, f"{env}: mean return of the episodes in training")
    axes.legend(loc="lower right", frameon=False)
    figure.save(drawing, path)
