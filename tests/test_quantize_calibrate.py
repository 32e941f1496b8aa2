"""Ranges against torch.ao's observers and the published search by entropy."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.ao.quantization import HistogramObserver, MinMaxObserver

from jaxdl.methods.quantize import affine, calibrate

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # torch.ao is to go

RNG = np.random.default_rng(0)
SAMPLES = {
    "normal": RNG.normal(0.3, 1.7, 20_000).astype(np.float32),
    "relu": np.maximum(RNG.normal(0, 2, 20_000), 0).astype(np.float32),
    "outliers": (RNG.normal(0, 1, 20_000) ** 5).astype(np.float32),
    "negative": -RNG.exponential(1, 20_000).astype(np.float32),
}
samples = pytest.mark.parametrize("x", SAMPLES.values(), ids=SAMPLES)


def histogram(x: np.ndarray) -> calibrate.Histogram:
    found = calibrate.Histogram(x.min(), x.max())
    found.add(x)
    return found


def ranges(x: np.ndarray, method: str, batches: int = 1, **options) -> calibrate.Range:
    parts = np.array_split(x, batches)
    return calibrate.ranges(lambda see: [see("fc", part) for part in parts], method, **options)["fc"]


@samples
def test_the_histogram_is_torchs(x):
    theirs = torch.histc(torch.from_numpy(x), calibrate.BINS, min=float(x.min()), max=float(x.max()))
    np.testing.assert_array_equal(histogram(x).counts, theirs)


@samples
@pytest.mark.parametrize(("method", "observer"), [("minmax", MinMaxObserver), ("histogram", HistogramObserver)])
def test_scale_and_zero_point_are_those_of_torchs_observer(x, method, observer):
    theirs = observer(dtype=torch.qint8)
    theirs(torch.from_numpy(x))
    scale, zero_point = affine.affine(*ranges(x, method))
    np.testing.assert_array_equal((scale, zero_point), [part.numpy()[0] for part in theirs.calculate_qparams()])


@samples
@pytest.mark.parametrize("method", calibrate.METHODS)
def test_how_images_are_batched_makes_no_difference(x, method):
    assert ranges(x, method) == ranges(x, method, batches=7)


@samples
@pytest.mark.parametrize("kept", [99.9, 90, 100])
def test_a_percentile_is_one_to_the_width_of_a_bin(x, kept):
    width, cut = (x.max() - x.min()) / calibrate.BINS, round((100 - kept) / 200 * len(x))
    ends = np.sort(x)[[cut, len(x) - 1 - cut]]
    np.testing.assert_allclose(ranges(x, "percentile", kept=kept), ends, rtol=0, atol=1.01 * width)


def published_limit(counts: np.ndarray, edges: np.ndarray, levels: int) -> float:
    """NVIDIA's pytorch-quantization 2.1, ``_compute_amax_entropy``, in plain loops."""
    bins = counts.astype(np.float64)
    bins[0] = bins[1]
    divergences, sizes = [], list(range(128, len(bins) + 1))
    for size in sizes:
        place = [index * levels // size for index in range(size)]
        sums, filled = np.zeros(levels), np.zeros(levels)
        for index in range(size):
            if bins[index]:
                sums[place[index]] += bins[index]
                filled[place[index]] += 1
        codes = [sums[p] / filled[p] if bins[i] else 0.0 for i, p in enumerate(place)]
        values = bins[:size].copy()
        values[-1] += bins[size:].sum()
        divergences.append(stats.entropy(values / values.sum(), codes / np.sum(codes)))
    last = len(sizes) - 1 - int(np.argmin(divergences[::-1]))
    return edges[sizes[last]]


@pytest.mark.parametrize(("name", "levels"), [("normal", 128), ("relu", 256), ("outliers", 128)])
def test_the_search_by_entropy_is_the_published_one(name, levels, monkeypatch):
    monkeypatch.setattr(calibrate, "BINS", 300)  # its loops are slow
    x = np.abs(SAMPLES[name])
    counts, edges = np.histogram(x, 300, (0, x.max()))
    low, high = calibrate.entropy(calibrate.Histogram(np.float32(0), x.max(), counts), levels)
    assert -low == high == pytest.approx(published_limit(counts, edges, levels))


def test_by_entropy_the_range_of_images_is_kept_and_that_of_other_inputs_is_cut():
    pixels, inner = np.asarray([0, 0, 0, 255], np.float32), SAMPLES["outliers"]
    found = calibrate.ranges(lambda see: [see("conv", pixels), see("fc", inner)], "entropy")
    assert found["conv"] == (0, 255)
    assert inner.min() < found["fc"][0] < 0 < found["fc"][1] < inner.max()


@pytest.mark.parametrize("method", calibrate.METHODS)
def test_inputs_that_are_all_the_same_have_a_range(method):
    assert ranges(np.full(100, 2, np.float32), method) == (2, 2)


def test_the_search_for_the_least_squares_beats_all_values():
    x = SAMPLES["outliers"]

    def error(method: str) -> float:
        scale, zero_point = affine.affine(*ranges(x, method))
        back = affine.dequantize(affine.quantize(x, scale, zero_point), scale, zero_point)
        return float(((back - x) ** 2).mean())

    assert error("histogram") < error("minmax")


@pytest.mark.parametrize(
    ("x", "method", "options", "message"),
    [
        ([], "minmax", {}, "calibration needs at least one image; got none"),
        ([1, np.nan], "minmax", {}, "an input of fc is NaN or infinite on the calibration images"),
        ([1, np.inf], "entropy", {}, "an input of fc is NaN or infinite"),
        ([1, 2], "median", {}, "--calibration must be one of minmax, percentile, histogram, entropy; got median"),
        ([1, 2], "percentile", {"kept": 0}, "--percentile must be above 0 and at most 100; got 0"),
        ([1, 2], "percentile", {"kept": 101}, "--percentile must be above 0 and at most 100; got 101"),
    ],
)
def test_what_cannot_be_calibrated_is_an_error(x, method, options, message):
    x = np.asarray(x, np.float32)
    with pytest.raises(ValueError, match=message):
        calibrate.ranges(lambda see: [see("fc", x)] if len(x) else None, method, **options)


def test_calibration_images_are_drawn_once_each_by_the_seed():
    split = {"image": np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), "label": np.zeros(10, np.int64)}
    all_of_them = calibrate.images(split, 10).ravel()
    np.testing.assert_array_equal(all_of_them, np.arange(10))
    assert not np.array_equal(calibrate.images(split, 4, seed=1), calibrate.images(split, 4, seed=2))


@pytest.mark.parametrize("count", [0, -1, 11])
def test_no_images_and_more_than_there_are_are_an_error(count):
    split = {"image": np.zeros((10, 1, 1, 1), np.uint8), "label": np.zeros(10, np.int64)}
    message = f"--calibration-images must lie between 1 and the 10 training images; got {count}"
    with pytest.raises(ValueError, match=message):
        calibrate.images(split, count)
