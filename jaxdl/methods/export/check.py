"""Is an artefact what it was made of? It is loaded again and run on test images beside the model."""

import dataclasses

import numpy as np

from jaxdl.methods.export.program import Loaded

BATCH = 250
# Of the largest logit: some hundred units in the last place of float32. Rounding stays ten times below; a wrong
# eps or padding is far above.
TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Reference:
    """What artefacts are compared on.

    Attributes:
      images, labels: (N, H, W, C) uint8 and (N,).
      expected: the model's logits, (N, classes).
      max_drop: how much accuracy an int8 artefact may lose, as a part of 1.
    """

    images: np.ndarray
    labels: np.ndarray
    expected: np.ndarray
    max_drop: float


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was found of one artefact.

    Attributes:
      max_difference: the largest absolute difference of a logit from the model's; None where one is no number.
      agreement: the part of the images of which it names the same class.
      accuracy: the part of which it names the right one.
      latency: seconds for a batch of one image.
      problem: why it is refused; None where it is not.
    """

    max_difference: float | None
    agreement: float
    accuracy: float
    latency: float
    problem: str | None


def logits(loaded: Loaded, images: np.ndarray) -> np.ndarray:
    """Those of many images."""
    return np.concatenate([loaded.run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)])


def measure(loaded: Loaded, tests: Reference, *, int8: bool) -> Measured:
    """Compares an artefact with the model: equal but for rounding, or in int8 as accurate."""
    found, expected = logits(loaded, tests.images), tests.expected
    difference = float(np.abs(found.astype(np.float64) - expected).max())
    accuracy, before = (float((scores.argmax(-1) == tests.labels).mean()) for scores in (found, expected))
    limit = TOLERANCE * float(np.abs(expected).max())
    problem = None
    if not np.isfinite(difference):
        problem = "not all of its outputs are numbers"
    elif int8 and accuracy < before - tests.max_drop:
        problem = (
            f"its accuracy of {accuracy:.2%} is more than {tests.max_drop:.2%} below the model's {before:.2%}"
        )
    elif not int8 and difference > limit:
        problem = f"its outputs differ from the model's by {difference:.1e}; rounding explains {limit:.1e}"
    return Measured(
        max_difference=difference if np.isfinite(difference) else None,
        agreement=float((found.argmax(-1) == expected.argmax(-1)).mean()),
        accuracy=accuracy,
        latency=loaded.latency(tests.images[0]),
        problem=problem,
    )
