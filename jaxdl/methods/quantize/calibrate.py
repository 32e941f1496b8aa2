"""Which range of a layer's inputs the codes cover, found on some training images.

The images are seen twice: first for the ends of the values, then for a histogram between them. So how they are
batched makes no difference, as it does to torch's HistogramObserver; the result is what that finds in one batch.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

BINS = 2048
LEVELS = 128  # of magnitude that int8 has

Range = tuple[np.float32, np.float32]  # the least and the greatest value


@dataclasses.dataclass
class Histogram:
    """How often values lie in each of the equally wide bins from ``low`` to ``high``, exactly; float32."""

    low: np.float32
    high: np.float32
    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: np.ndarray) -> None:
        """Counts the values, which lie between the ends."""
        if self.high == self.low:
            self.counts[0] += values.size
            return
        # As torch.histc, so that a value at an edge falls where it falls there.
        places = ((values.ravel() - self.low) / (self.high - self.low) * np.float32(BINS)).astype(np.int64)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    def edge(self, place: int) -> np.float32:
        """Where bin ``place`` begins."""
        return np.float32(self.low + (self.high - self.low) / np.float32(BINS) * np.float32(place))


def percentile(histogram: Histogram, kept: float = 99.99) -> Range:
    """At least ``kept`` percent of the values, the rest is cut off in equal parts at both ends; to a bin's width.

    Raises:
      ValueError: a percentage that is not above 0 and at most 100.
    """
    if not 0 < kept <= 100:
        raise ValueError(f"--percentile must be above 0 and at most 100; got {kept:g}")
    below = np.cumsum(histogram.counts)
    cut = int((100 - kept) / 200 * below[-1] + 1e-6)  # 10 values, where rounding makes it 9.9999999
    first = int(np.searchsorted(below, cut, side="right"))
    last = int(np.searchsorted(below, below[-1] - cut, side="left"))
    return histogram.edge(first), histogram.edge(last + 1)


def least_squares(histogram: Histogram) -> Range:
    """The range with the least squared error, searched from the outside in, in steps of 1e-5 of the values.

    Source: torch.ao.quantization.HistogramObserver, whose search this is.
    """
    below, total = np.cumsum(histogram.counts), int(histogram.counts.sum())
    (start, end), best = (0, BINS - 1), np.inf
    alpha, beta, step = 0.0, 1.0, 1e-5
    while alpha < beta:
        left = max(start, min(end, int(np.searchsorted(below, (alpha + step) * total, side="left"))))
        right = min(end, max(start, int(np.searchsorted(below, (beta - step) * total, side="right")) - 1))
        if left - start > end - right:
            alpha, candidate = alpha + step, (left, end)
        else:
            beta, candidate = beta - step, (start, right)
        if candidate == (start, end):
            continue
        error = _squared_error(histogram, *candidate)
        if error > best:
            break
        best, (start, end) = error, candidate
    return histogram.edge(start), histogram.edge(end + 1)


def entropy(histogram: Histogram, levels: int = LEVELS) -> Range:
    """The magnitude beyond which values are cut off so that the codes' distribution is nearest to the values'.

    Nearest in the divergence of Kullback and Leibler; of equals the widest. The first bin counts as the second:
    after a ReLU most values are 0, which has a code of its own whatever the range.

    Args:
      histogram: of magnitudes.
      levels: codes that a magnitude has: 128 of int8, 256 where no value is negative.

    Source: Migacz 2017, "8-bit inference with TensorRT"; NVIDIA's pytorch-quantization, ``calib/histogram.py``
    """
    counts = histogram.counts.copy()
    counts[0] = counts[1]
    divergences = [_divergence(counts, size, levels) for size in range(BINS, LEVELS - 1, -1)]
    limit = histogram.edge(BINS - int(np.argmin(divergences)))
    return np.float32(-limit), limit


METHODS = ("minmax", "percentile", "histogram", "entropy")


def ranges(
    observe: Callable[[Callable[[str, np.ndarray], None]], None], method: str, kept: float = 99.99
) -> dict[str, Range]:
    """The range of each layer's inputs.

    Args:
      observe: runs the model on the calibration images and passes each layer's name and inputs to its argument.
      method: of `METHODS`.
      kept: percent of the values, with the method "percentile".

    Raises:
      ValueError: an unknown method, no images, inputs that are no numbers.
    """
    if method not in METHODS:
        raise ValueError(f"--calibration must be one of {', '.join(METHODS)}; got {method}")
    ends = _ends(observe)
    if not ends:
        raise ValueError("calibration needs at least one image; got none")
    if method == "minmax":  # needs no second look
        return ends
    magnitudes = method == "entropy"
    histograms = {name: Histogram(*(_magnitudes(*end) if magnitudes else end)) for name, end in ends.items()}
    observe(lambda name, values: histograms[name].add(np.abs(values) if magnitudes else values))
    searches = {
        "percentile": lambda _, histogram: percentile(histogram, kept),
        "histogram": lambda _, histogram: least_squares(histogram),
        "entropy": lambda low, histogram: entropy(histogram, LEVELS if low < 0 else 2 * LEVELS),
    }
    found = {}
    for name, (least, greatest) in ends.items():
        low, high = searches[method](least, histograms[name])
        found[name] = max(low, least), min(high, greatest)
    if method == "entropy":
        # Pixels have few values, most of them that of the background: clipping all others into it would cost no
        # divergence (MNIST fell to 90 %). But the ends of images are known.
        first = next(iter(ends))
        found[first] = ends[first]
    return found


def _ends(observe: Callable[[Callable[[str, np.ndarray], None]], None]) -> dict[str, Range]:
    ends: dict[str, Range] = {}

    def widen(name: str, values: np.ndarray) -> None:
        low, high = values.min(), values.max()
        if not np.isfinite([low, high]).all():
            raise ValueError(f"an input of {name} is NaN or infinite on the calibration images")
        before = ends.get(name, (low, high))
        ends[name] = min(low, before[0]), max(high, before[1])

    observe(widen)
    return ends


def _magnitudes(low: np.float32, high: np.float32) -> Range:
    return np.float32(0), max(np.abs(low), np.abs(high))


def _squared_error(histogram: Histogram, start: int, end: int) -> float:
    """The integral of the squared rounding error, where 256 codes share the bins from ``start`` to ``end``.

    Values are taken as equally spread within a bin.
    """
    width, codes = float(histogram.high - histogram.low) / BINS, 256
    step = width * (end - start + 1) / codes
    if step == 0:
        return 0.0
    begins = (np.arange(BINS) - start) * width
    ends = begins + width
    first, last = ((np.floor(x / step)).clip(0, codes - 1) for x in (begins, ends))

    def cubes(low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray | float:
        return (high**3 - low**3) / 3

    errors = cubes(begins - (first + 0.5) * step, step / 2)
    errors = errors + (last - first - 1) * cubes(-step / 2, step / 2)
    errors = errors + cubes(-step / 2, ends - (last + 0.5) * step)
    return float((errors * histogram.counts / width).sum())


def _divergence(counts: np.ndarray, size: int, levels: int) -> float:
    """How far the distribution of the first ``size`` bins is from the same in so many levels, as a divergence.

    What lies beyond is counted in the last bin of the one, and lost to the other.
    """
    kept = counts[:size].astype(np.float64)
    values = kept.copy()
    values[-1] += counts[size:].sum()
    level = np.arange(size) * levels // size
    sums = np.bincount(level, kept, levels)
    filled = np.bincount(level, kept > 0, levels)
    codes = np.where(kept > 0, (sums / np.maximum(filled, 1))[level], 0)
    there = values > 0
    if not there.any() or (codes[there] == 0).any():
        return np.inf
    p, q = values[there] / values.sum(), codes[there] / codes.sum()
    return float((p * np.log(p / q)).sum())


def images(split: Mapping[str, np.ndarray], count: int, seed: int = 0) -> np.ndarray:
    """``count`` different training images, uint8, drawn by the seed.

    Raises:
      ValueError: no image, or more than there are.
    """
    there = len(split["label"])
    if not 1 <= count <= there:
        raise ValueError(f"--calibration-images must lie between 1 and the {there} training images; got {count}")
    rows: Sequence[int] = np.sort(np.random.default_rng(seed).choice(there, count, replace=False))  # pyright: ignore[reportAssignmentType]
    return np.asarray(split["image"][rows])
