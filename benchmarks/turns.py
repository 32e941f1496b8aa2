"""Contenders take turns, and go round once more where what came out was too noisy."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks import stats
from benchmarks.process import ArmError

Measured = Mapping[str, float]


@dataclasses.dataclass
class Entrant:
    """One contender of a task.

    Attributes:
      samples: of each quantity, one a round.
      failed: why there are no more; empty where nothing went wrong.
    """

    samples: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    failed: str = ""

    @property
    def noisy(self) -> bool:
        """Whether a quantity varies too much for a claim."""
        return any(stats.summary(values).noisy for values in self.samples.values())


def take_turns(contenders: Mapping[str, Callable[[], Measured]], rounds: int) -> Iterator[dict[str, Entrant]]:
    """Measures every contender once a round; all anew, once, when an entrant is noisy at the end.

    Args:
      contenders: name -> what measures it; one that raises `ArmError` is out.
      rounds: samples of each.

    Yields:
      What is known after each round.
    """
    entrants = {name: Entrant() for name in contenders}
    for attempt in range(2):
        if attempt and not any(entrant.noisy for entrant in entrants.values()):
            return
        for entrant in entrants.values():
            entrant.samples = {}
        for _ in range(rounds):
            for name, measure in contenders.items():
                _add(entrants[name], measure)
            yield entrants


def _add(entrant: Entrant, measure: Callable[[], Measured]) -> None:
    if entrant.failed:
        return
    try:
        measured = measure()
    except ArmError as error:
        entrant.samples, entrant.failed = {}, str(error)
        return
    for name, value in measured.items():
        entrant.samples.setdefault(name, []).append(value)


def as_json(entrants: Mapping[str, Entrant]) -> dict[str, Any]:
    """The form in a result; ``Entrant(**value)`` is the way back."""
    return {name: dataclasses.asdict(entrant) for name, entrant in entrants.items()}
