"""Rows of text under each other, as a command prints its result."""

from collections.abc import Sequence


def lines(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A line of titles and one for each row: the first column to the left, all others to the right.

    Raises:
      ValueError: a row of another length than the titles.
    """
    table = [list(titles), *(list(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table]
