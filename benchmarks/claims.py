"""What results say: measured cells, comparisons of two of them, and the goals they are held against."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from benchmarks import stats
from benchmarks.stats import Estimate

STRONGEST = "strongest torch"
FEWEST = 3  # samples that have a spread to speak of


@dataclasses.dataclass(frozen=True)
class Goal:
    """``arm`` should run at ``cpu`` or ``gpu`` times the speed of ``other``, or more; None: stated only.

    ``other`` may be `STRONGEST`: whichever torch arm was the fastest.
    """

    phase: str
    arm: str
    other: str
    cpu: float | None = None
    gpu: float | None = None

    def at_least(self, platform: str) -> float | None:
        """The factor on a platform, as JAX names it."""
        return self.cpu if platform == "cpu" else self.gpu


@dataclasses.dataclass(frozen=True)
class Measure:
    """One cell: its samples, for instance of ``unit`` "steps/s"."""

    samples: Sequence[float]
    unit: str
    larger_is_better: bool = True


@dataclasses.dataclass(frozen=True)
class Claim:
    """A comparison with its 95 % interval, and its goal.

    Attributes:
      what: reads alone: "Net, step: scan / torch-eager".
      estimate: a ratio; or a share or a difference of shares, shown in per cent.
      goal: the least it should be, or the most where less is better; None: stated only.
      larger_is_better: the direction.
      noisy: a side of it spreads too far for any word.
      kind: what ``estimate`` is.
    """

    what: str
    estimate: Estimate
    goal: float | None = None
    larger_is_better: bool = True
    noisy: bool = False
    kind: Literal["ratio", "share", "difference"] = "ratio"

    @property
    def verdict(self) -> str:
        """Whether the left side is "ahead" or "behind", or why that cannot be said; of a share nothing."""
        if self.kind == "share":
            return ""
        if self.noisy:
            return "too noisy to say"
        even = 1.0 if self.kind == "ratio" else 0.0
        if self.estimate.low <= even <= self.estimate.high:
            return "no difference"
        return "ahead" if (self.estimate.low > even) == self.larger_is_better else "behind"

    @property
    def outcome(self) -> str:
        """The goal with what became of it; empty where there is none, or nothing can be said."""
        if self.goal is None or self.noisy:
            return ""
        low, value, high = self.estimate.low, self.estimate.value, self.estimate.high
        worst, best = (low, high) if self.larger_is_better else (high, low)
        reached = self._meets(value)
        doubtful = reached != self._meets(worst if reached else best)
        word = ("reached" if reached else "missed") + (", within the noise" if doubtful else "")
        return f"{'>=' if self.larger_is_better else '<='} {self.shown(self.goal, short=True)}: {word}"

    @property
    def reached(self) -> bool | None:
        """Whether the value meets the goal; None where there is none, or nothing can be said."""
        return None if self.goal is None or self.noisy else self._meets(self.estimate.value)

    def shown(self, value: float, *, short: bool = False) -> str:
        """A value of this kind as text; ``short``: without zeros at the end."""
        if self.kind == "ratio":
            return f"{value:g}" if short else f"{value:.2f}" if value < 100 else f"{value:,.0f}"
        if short:
            return f"{100 * value:g}%"
        return f"{value:.2%}" if self.kind == "share" else f"{value:+.2%}"

    @property
    def interval(self) -> str:
        """ "low to high"."""
        return f"{self.shown(self.estimate.low)} to {self.shown(self.estimate.high)}"

    def _meets(self, value: float) -> bool:
        assert self.goal is not None
        return value >= self.goal if self.larger_is_better else value <= self.goal


def compared(what: str, left: Measure, right: Measure, goal: float | None = None) -> Claim:
    """The ratio of the medians of two cells of one unit; noisy where one of them is, or has too few samples."""
    noisy = any(stats.summary(side.samples).noisy or len(side.samples) < FEWEST for side in (left, right))
    estimate = stats.ratio(left.samples, right.samples)
    return Claim(what, estimate, goal, larger_is_better=left.larger_is_better, noisy=noisy)
