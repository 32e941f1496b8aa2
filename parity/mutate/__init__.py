"""Plants the bugs that ports have, one at a time, into a pair that is right: what a check is worth is what it
catches.

Every fault is planted on the port's side: in its weights, its layers, the functions of JAX it calls, its loss, its
inputs or its optax transformation. `parity.diagnose` knows nothing of this package.
"""

from collections.abc import Iterator, Sequence

from parity.mutate import data, functions, layers, loss, norms, optimizer, weights
from parity.mutate.faults import Fault, Planted, Right, right

__all__ = ["FAULTS", "Fault", "Planted", "Right", "planted", "right"]

FAULTS: tuple[Fault, ...] = (
    *weights.FAULTS,
    *norms.FAULTS,
    *layers.FAULTS,
    *functions.FAULTS,
    *loss.FAULTS,
    *data.FAULTS,
    *optimizer.FAULTS,
)


def planted(given: Right, names: Sequence[str] = ()) -> Iterator[tuple[Fault, Planted]]:
    """Every fault that the pair has a place for, once each, at the first of these places.

    Args:
      given: of `right`.
      names: of faults; all without.
    """
    for one in FAULTS:
        if not names or one.name in names:
            found = next(one.plant(given), None)
            if found:
                yield one, found
