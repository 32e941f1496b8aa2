"""Tables and figures in Markdown."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left and the others to the right; a bar in a cell is escaped."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (head, *rows)]
    lines.insert(1, ["---", *["---:"] * (len(head) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def figures(value: float) -> str:
    """Three figures or more: 2,803; 43.6; 0.0121."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
