"""What an explanation is."""

import dataclasses

# What is left of an error that is explained: rounding, and a constant that is known to a few digits less.
EXPLAINED = 1e-8


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a port does instead.

    Attributes:
      name: of `parity.mutate` where it is one of those faults.
      fix: what to change in the port, in a line.
    """

    name: str
    fix: str


# With what is left of the error under it.
Candidate = tuple[Explanation, float]
