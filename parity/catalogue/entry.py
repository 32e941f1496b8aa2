"""A known difference between PyTorch and JAX, as something that can be run."""

import contextlib
import dataclasses
import enum
import inspect
import warnings
from collections.abc import Callable, Iterator

import torch as th

from parity.catalogue.facts import Fact
from parity.prove import precise

Facts = Iterator[Fact]


class Status(enum.StrEnum):
    """How a port gets torch's numbers."""

    OPTIONS = "match with options"
    NO_OPTION = "no option"
    CURED = "cured here"  # no setting of flax or optax, but a part of jaxdl or parity
    SAME = "same"
    GPU = "not checked here: needs a GPU"


class Skip(Exception):
    """What is left of an entry cannot be measured here; says why."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a check found.

    Attributes:
      facts: one for each statement that could be measured.
      skipped: why the others could not.
      error: what broke the measurement: an argument that is gone, for one.
    """

    facts: tuple[Fact, ...]
    skipped: str = ""
    error: str = ""

    @property
    def verdict(self) -> str:
        """``holds``, ``skipped`` or ``changed``: the installed versions are not as the entry says."""
        if self.error or not all(fact.holds for fact in self.facts):
            return "changed"
        if self.skipped:
            return "skipped"
        return "holds" if self.facts else "changed"

    @property
    def without(self) -> float | None:
        """The largest difference without the workaround."""
        return max((fact.without for fact in self.facts if fact.without is not None), default=None)

    @property
    def cured(self) -> float | None:
        """The largest difference with the workaround."""
        return max((fact.cured for fact in self.facts if fact.cured is not None), default=None)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the catalogue.

    Attributes:
      row: its number.
      title: what it is about.
      status: how a port gets torch's numbers.
      torch, jax: the two rules.
      instead: the workaround, as code.
      measure: yields the facts, in float64 on the CPU; raises `Skip` where it cannot go on.
    """

    row: int
    title: str
    status: Status
    torch: str
    jax: str
    instead: str
    measure: Callable[[], Facts]

    def check(self) -> Measured:
        """Measures every fact with the installed versions, from seed 0; torch's random numbers go on as before."""
        facts: list[Fact] = []
        with precise(), _own_randomness(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an entry shows is often what a framework warns of
            try:
                for fact in self.measure():
                    facts.append(fact)
            except Skip as reason:
                return Measured(tuple(facts), skipped=str(reason))
            except Exception as error:
                first = next(iter(str(error).strip().splitlines()), "")
                return Measured(tuple(facts), error=f"{type(error).__name__}: {first}")
        return Measured(tuple(facts))


def entry(
    row: int, title: str, status: Status, *, torch: str, jax: str, instead: str
) -> Callable[[Callable[[], Facts]], Entry]:
    """Makes an `Entry` of a function that yields its facts."""

    def made(measure: Callable[[], Facts]) -> Entry:
        return Entry(row, title, status, torch, jax, inspect.cleandoc(instead), measure)

    return made


@contextlib.contextmanager
def _own_randomness() -> Iterator[None]:
    with th.random.fork_rng(devices=[]):
        th.default_generator.manual_seed(0)
        yield
