"""The catalogue for the terminal and for a README."""

import textwrap
from collections.abc import Callable, Iterator, Mapping

from parity.catalogue.entry import Entry, Measured
from parity.catalogue.facts import Fact
from parity.report.text import number

MARKS = {"holds": " ", "changed": "✗", "skipped": "-"}
HEAD = f"{'row':>5}  {'':<52} {'':<20} {'without':>8} {'with':>8}"
MARKDOWN_HEAD = "| row | | status | without | with |\n| ---: | --- | --- | ---: | ---: |"


def line(entry: Entry, measured: Measured) -> str:
    """A line of the table, with a second one where the entry has changed or could not be measured whole."""
    status = entry.status.value.partition(":")[0]
    row = f"{MARKS[measured.verdict]} {entry.row:>3}  {entry.title:<52} {status:<20} {_figures(measured)}"
    return "\n".join([row, *(f"{'':<7}{note}" for note in _notes(measured))])


def markdown(entry: Entry, measured: Measured) -> str:
    """A row of the table in Markdown."""
    status = entry.status.value if measured.verdict == "holds" else f"{entry.status.value}; {measured.verdict}"
    without, cured = (number(value) if value is not None else "" for value in (measured.without, measured.cured))
    return f"| {entry.row} | {entry.title} | {status} | {without} | {cured} |"


def full(entry: Entry, measured: Measured) -> str:
    """Both rules, every fact and the workaround."""
    lines = ["", f"  {entry.row}. {entry.title}  ({entry.status.value})", ""]
    for side, rule in (("torch", entry.torch), ("JAX", entry.jax)):
        lines += textwrap.wrap(rule, 110, initial_indent=f"    {side:<8}", subsequent_indent=" " * 12)
    lines += ["", f"    {'':<64} {'torch':>9} {'JAX':>9} {'without':>8} {'with':>8}"]
    lines += [_fact(fact) for fact in measured.facts]
    lines += [f"  ✗ {note}" for note in _notes(measured) if measured.verdict == "changed"]
    lines += [f"  - {note}" for note in _notes(measured) if measured.verdict == "skipped"]
    return "\n".join([*lines, "", "    instead", textwrap.indent(entry.instead, " " * 12)])


def summary(found: list[Measured]) -> str:
    """How many entries hold, in a line."""
    counts = {verdict: sum(measured.verdict == verdict for measured in found) for verdict in MARKS}
    words = {"holds": "as stated"}
    return ", ".join(f"{count} {words.get(verdict, verdict)}" for verdict, count in counts.items() if count)


def _figures(measured: Measured) -> str:
    return f"{_number(measured.without):>8} {_number(measured.cured):>8}"


def _fact(fact: Fact) -> str:
    mark = " " if fact.holds else "✗"
    theirs, port = fact.values or ("", "")
    row = f"  {mark} {fact.what:<64} {theirs:>9} {port:>9} {_number(fact.without):>8} {_number(fact.cured):>8}"
    return row.rstrip()


def _notes(measured: Measured) -> Iterator[str]:
    if measured.error:
        yield f"changed: {measured.error}"
    for fact in measured.facts:
        if not fact.holds:
            bounds = f": expected {fact.expected}, got {_number(fact.without)}" if fact.expected else ""
            left = f", then {_number(fact.cured)}" if fact.cured is not None else ""
            yield f"changed: {fact.what}{bounds}{left}"
    if measured.skipped:
        yield f"skipped: {measured.skipped}"


def _number(value: float | None) -> str:
    return "" if value is None else number(value)


# What stands above the entries, and how each is shown.
FORMS: Mapping[str, tuple[str, Callable[[Entry, Measured], str]]] = {
    "table": (HEAD, line),
    "markdown": (MARKDOWN_HEAD, markdown),
    "full": ("", full),
}
