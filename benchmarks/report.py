"""Results as JSON and as Markdown: what was measured, with which command, where, with which versions."""

import datetime
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import stats
from benchmarks.process import ROOT, threads
from benchmarks.train import Cell, compare
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")
ORDER = ("train", "startup", "accuracy", "recipe")


def machine() -> dict[str, Any]:
    """Processor, threads, versions and date."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {
        "cpu": names[0] if names else platform.machine(),
        "threads": threads(),
        "versions": {"python": platform.python_version()} | versions,
        "date": datetime.date.today().isoformat(),
    }


def save(result: dict[str, Any], folder: Path | None = None) -> Path:
    """Writes a result under its name; an older one of that name is replaced."""
    path = (folder or RESULTS) / f"{name(result)}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return path


def name(result: dict[str, Any]) -> str:
    """Kind, workload or recipe, and platform: what a later result of the same name replaces."""
    parts = [result["kind"], result.get("workload"), result.get("recipe"), result["platform"]]
    return "-".join(part for part in parts if part)


def load(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All results, in the order of the page."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    workloads = [None, *WORKLOADS]
    return sorted(results, key=lambda found: (ORDER.index(found["kind"]), workloads.index(found.get("workload"))))


def update(results: Sequence[dict[str, Any]], readme: Path = README) -> None:
    """Puts the tables between the two marks of the README.

    Raises:
      ValueError: it does not have both.
    """
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme.name}: expected the lines {BEGIN} and {END}, between which the tables go")
    pages = "\n\n".join(page(result) for result in results)
    readme.write_text(f"{before}{BEGIN}\n{pages}\n{END}{after}")


def page(result: dict[str, Any]) -> str:
    """A result in Markdown: its tables, and a line on how and where it came to be."""
    draw = {"train": _train, "startup": _startup, "accuracy": _accuracy, "recipe": _recipe}[result["kind"]]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    device = "" if result["platform"] == "cpu" else f"{result['device']}, "
    where = f"{device}{result['cpu']}, {result['threads']} threads; {versions}; {result['date']}"
    return f"{draw(result)}\n\n`{result['command']}`: {result['data']}; {where}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _train(result: dict[str, Any]) -> str:
    workload, cells = WORKLOADS[result["workload"]], [Cell(**cell) for cell in result["cells"]]
    head = (workload.title, "steps/s", "IQR", "n", "ms/step", "loss, epoch 1", "warm-up, s", "")
    parts = [table(head, [_cell(cell) for cell in cells])]
    ratios = [_ratio(row) for row in compare(workload, cells, result["platform"])]
    parts += [table(("speed", "ratio", "95 % interval", "verdict", "goal"), ratios)] if ratios else []
    return "\n\n".join(parts)


def _cell(cell: Cell) -> tuple[str, ...]:
    if cell.skipped:
        return cell.arm, *[""] * 6, f"skipped: {cell.skipped}"
    found = stats.summary(cell.speeds)
    remarks = ["noisy"] if found.noisy else []
    remarks += ["void: the loss is not that of the others"] if cell.void else []
    if cell.with_evaluation:
        remarks.append(f"{_figures(stats.summary(cell.with_evaluation).median)} with evaluation")
    remarks += [f"{name} {value}" for name, value in cell.facts.items()]
    numbers = _figures(found.median), _figures(found.iqr), str(found.n), f"{1000 / found.median:.3f}"
    loss = "no number" if cell.loss is None else f"{cell.loss:.5f}"
    return cell.arm, *numbers, loss, f"{cell.warm or 0:.1f}", "; ".join(remarks)


def _figures(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.1f}"


def _ratio(row: dict[str, Any]) -> tuple[str, ...]:
    goal = row["goal"]
    reached = "" if goal is None else f">= {goal:g}: {'reached' if row['value'] >= goal else 'missed'}"
    interval = f"{row['low']:.2f} to {row['high']:.2f}"
    return f"{row['arm']} / {row['other']}", f"{row['value']:.2f}", interval, row["verdict"], reached


def _startup(result: dict[str, Any]) -> str:
    seconds, rows = result["seconds"], []
    for arm, samples in seconds.items():
        found, ratio = stats.summary(samples), stats.ratio(samples, seconds["torch"])
        times = "" if arm == "torch" else f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        goal = f"<= {result['goal']:g}: {'reached' if ratio.value <= result['goal'] else 'missed'}"
        remarks = [goal] if "warm" in arm else []
        remarks += ["noisy"] if found.noisy else []
        rows.append((arm, f"{found.median:.2f}", f"{found.iqr:.2f}", str(found.n), times, "; ".join(remarks)))
    head = ("to the first finished step", "s", "IQR", "n", "times torch (95 % interval)", "")
    return table(head, rows)


def _accuracy(result: dict[str, Any]) -> str:
    reached = result["accuracy"]
    rows = [(arm, *_spread(samples), "") for arm, samples in reached.items()]
    gap = stats.difference(reached["jaxdl"], reached["torch"])
    interval = f"{gap.low:+.2%} to {gap.high:+.2%}"
    word = "no difference" if gap.low <= 0 <= gap.high else "they differ"
    rows.append(("jaxdl - torch", f"{gap.value:+.2%}", "", "", "", "", f"95 % interval {interval}: {word}"))
    title = f"test accuracy, the document's setup, {result['epochs']} epochs"
    return table((title, "mean", "std", "min", "max", "seeds", ""), rows)


def _recipe(result: dict[str, Any]) -> str:
    seconds = stats.summary(result["seconds"])
    row = (f"--recipe {result['recipe']}", *_spread(result["accuracy"]), f"{seconds.median:.1f}")
    return table(("test accuracy", "mean", "std", "min", "max", "seeds", "s, start-up included"), [row])


def _spread(samples: Sequence[float]) -> tuple[str, ...]:
    mean, std = stats.mean_std(samples)
    return f"{mean:.2%}", f"{std:.2%}", f"{min(samples):.2%}", f"{max(samples):.2%}", str(len(samples))
