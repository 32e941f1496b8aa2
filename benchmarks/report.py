"""The page of all results, its pictures, and the short table of the README: drawn, never typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, markdown, plots
from benchmarks.claims import Claim
from benchmarks.process import ROOT
from benchmarks.results import FOLDER, load, name
from benchmarks.tasks import TASKS

README = ROOT / "README.md"
BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
INTRODUCTION = """\
# Measured

Drawn by `python -m benchmarks table` from the JSON files beside it; each number was measured by the command above
it.

One process an arm and framework; the arms take turns, window by window, and the device is awaited at the end of
a window only. Medians, with the interquartile range (IQR) over n windows; a cell whose IQR exceeds 25 % of its
median is measured again, and marked as noisy if it stays so. Ratios are of medians, with the 95 % interval of
the percentile bootstrap. What an arm computed is compared with the others (check): one that differs is void,
however fast it is."""


def draw(readme: Path = README, folder: Path = FOLDER) -> None:
    """Draws page and pictures into the folder of the results, and the table into the README.

    Raises:
      FileNotFoundError: there are no results.
      ValueError: the README does not have the two marks.
    """
    found = load(folder)
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{readme.name}: expected the lines {BEGIN} and {END}, between which the table goes")
    drawn = pictures(found, folder)
    (folder / "README.md").write_text(whole(found, drawn))
    short = summary(found, drawn, folder.resolve().relative_to(readme.parent.resolve()))
    readme.write_text(f"{before}{BEGIN}\n{short}\n{END}{after}")


def whole(found: Sequence[Mapping[str, Any]], drawn: Mapping[str, str]) -> str:
    """The page of the folder.

    Args:
      found: the results.
      drawn: name of a result, or a platform -> file of its picture.
    """
    parts = [INTRODUCTION]
    for platform in _platforms(found):
        parts.append(f"## {platform.upper()}")
        parts += [f"![Ratios to PyTorch]({drawn[platform]})"] if platform in drawn else []
        for result in (result for result in found if result["platform"] == platform):
            parts.append(page(result))
            parts += [f"![{name(result)}]({drawn[name(result)]})"] if name(result) in drawn else []
    return "\n\n".join(parts) + "\n"


def page(result: Mapping[str, Any]) -> str:
    """A result in Markdown: where it was measured, its tables, its claims."""
    task = TASKS[result["task"]]
    head = f"`{result['command']}`: {result['data']}; {machine.line(result)}."
    rows = [_row(claim) for claim in task.claims(result)]
    claims = [markdown.table(("", "value", "95 % interval", "verdict", "goal"), rows)] if rows else []
    return "\n\n".join([head, task.tables(result), *claims])


def summary(found: Sequence[Mapping[str, Any]], drawn: Mapping[str, str], folder: Path) -> str:
    """What the README shows: the claims with a goal, platform by platform, and the way to the rest."""
    parts = []
    for platform in _platforms(found):
        parts += [f"![Ratios to PyTorch]({folder / drawn[platform]})"] if platform in drawn else []
        part = [result for result in found if result["platform"] == platform]
        rows = [
            _row(claim)
            for result in part
            for claim in TASKS[result["task"]].claims(result)
            if claim.goal is not None
        ]
        parts.append(markdown.table((_where(part), "value", "95 % interval", "verdict", "goal"), rows))
    more = f"[All cells, with losses, machine and versions, and those that did not run]({folder / 'README.md'})."
    return "\n\n".join([*parts, more])


def pictures(found: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Draws the goals of each platform, and what a task draws itself; returns their file names."""
    drawn = {}
    for platform in _platforms(found):
        claims = [
            claim
            for result in found
            if result["platform"] == platform
            for claim in TASKS[result["task"]].claims(result)
        ]
        ratios = [claim for claim in claims if claim.kind == "ratio" and claim.goal is not None]
        if ratios:
            drawn[platform] = f"ratios-{platform}.png"
            plots.ratios(ratios, folder / drawn[platform])
    for result in found:
        if plot := getattr(TASKS[result["task"]], "plot", None):
            drawn[name(result)] = f"{name(result)}.png"
            plot(result, folder / drawn[name(result)])
    return drawn


def _row(claim: Claim) -> tuple[str, ...]:
    return claim.what, claim.shown(claim.estimate.value), claim.interval, claim.verdict, claim.outcome


def _platforms(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({result["platform"] for result in found}, key=lambda platform: (platform != "cpu", platform))


def _where(found: Sequence[Mapping[str, Any]]) -> str:
    """Machine, versions and dates of some results."""
    places = {
        result["device"] if result["platform"] == "gpu" else f"{result['threads']} threads of {result['cpu']}"
        for result in found
    }
    versions = {f"torch {result['versions']['torch']}, jax {result['versions']['jax']}" for result in found}
    dates = sorted({result["date"] for result in found})
    span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return "; ".join([", ".join(sorted(places)), ", ".join(sorted(versions)), span])
