"""Where PyTorch and JAX disagree: every known difference with its rule, its proof and what to write instead.

An entry runs against the installed versions, and says "changed" when they are no longer as it states. A new one is
a function with `entry` above it in the file of its topic; its number is the next that is free.
"""

from collections.abc import Iterator, Mapping, Sequence

from parity.catalogue import (
    attention,
    images,
    initialisation,
    kinks,
    layers,
    layout,
    losses,
    norms,
    numerics,
    optimizers,
    parallel,
    proof,
    recurrent,
    schedules,
    training,
)
from parity.catalogue.entry import Entry, Measured, Skip, Status

__all__ = ["ENTRIES", "CatalogueError", "Entry", "Measured", "Skip", "Status", "find"]

TOPICS = (
    initialisation,
    layout,
    layers,
    recurrent,
    norms,
    images,
    attention,
    losses,
    optimizers,
    schedules,
    training,
    kinks,
    numerics,
    parallel,
    proof,
)


class CatalogueError(ValueError):
    """A row that the catalogue does not have."""


def _entries() -> Iterator[tuple[int, Entry]]:
    found = [value for topic in TOPICS for value in vars(topic).values() if isinstance(value, Entry)]
    for row, each in enumerate(sorted(found, key=lambda each: each.row), 1):
        if each.row != row:
            raise CatalogueError(f"expected an entry for row {row}, got {each.row}: {each.title}")
        yield row, each


ENTRIES: Mapping[int, Entry] = dict(_entries())


def find(words: Sequence[str]) -> list[Entry]:
    """The entries of these rows, and those that speak of all the other words.

    Args:
      words: numbers of rows, and words of titles, rules and workarounds in any case; nothing for all entries.

    Raises:
      CatalogueError: a row that is not there, or words that no entry has.
    """
    rows = {int(word) for word in words if word.isdecimal()}
    wanted = [word.lower() for word in words if not word.isdecimal()]
    if missing := rows - ENTRIES.keys():
        raise CatalogueError(
            f"the catalogue has rows 1 to {len(ENTRIES)}, not {', '.join(map(str, sorted(missing)))}"
        )
    spoken = {row for row, each in ENTRIES.items() if all(word in _text(each) for word in wanted)}
    if wanted and not spoken:
        raise CatalogueError(f"no entry of the catalogue has the words {' '.join(wanted)}")
    chosen = rows | (spoken if wanted or not rows else set())
    return [each for row, each in ENTRIES.items() if row in chosen]


def _text(each: Entry) -> str:
    return " ".join((each.title, each.status.value, each.torch, each.jax, each.instead)).lower()
