"""From what a data set is like and what short trainings showed to options of training, each with its reason."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from jaxdl.methods.survey import Survey

STEPS = 100  # of the trials
PICTURE = 0.3  # correlation of neighbouring pixels from which on the order of the pixels means something
SMALLEST = 4  # pixels along a side, for two poolings
FEW = 10_000  # training images, below which they are learnt by heart
UPDATES = 3000  # to aim at
BUDGET = 900.0  # seconds of training to stay below
IMBALANCED = 3.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a short training showed.

    Attributes:
      model, optimizer: which.
      lr: the rate chosen by the range test.
      lowest_at: the rate at which its loss was lowest.
      train_accuracy: of the last steps of the training at that rate.
      accuracy: on the images that were kept aside, ``kept`` of them.
      seconds: a step takes, compilation not counted.
    """

    model: str
    optimizer: str
    lr: float
    lowest_at: float
    train_accuracy: float
    accuracy: float
    kept: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Reason:
    """One line of the advice: what it is about, what to do, and the numbers that say so."""

    topic: str
    choice: str
    why: str


def could_be_picture(seen: Survey) -> bool:
    """Whether neighbouring pixels have to do with each other, and there are enough of them to convolve."""
    return seen.structure >= PICTURE and min(seen.shape[:2]) >= SMALLEST


def better(trials: list[Trial], seen: Survey) -> Trial:
    """The most accurate, but the fastest of those that are as good within two standard errors."""
    top = max(trials, key=lambda one: one.accuracy)
    good = [one for one in trials if top.accuracy - one.accuracy <= 2 * error_of(top)]
    affordable = [one for one in good if passes(one, seen) >= 1] or good
    return min(affordable, key=lambda one: (one.seconds, -one.accuracy)) if len(good) > 1 else top


def error_of(one: Trial) -> float:
    """The standard error of the accuracy of a trial."""
    return math.sqrt(max(one.accuracy * (1 - one.accuracy), 0.005) / one.kept)


def passes(one: Trial, seen: Survey) -> int:
    """Epochs that reach `UPDATES`, at least 3, as far as they stay within `BUDGET`."""
    per_epoch = _steps_per_epoch(seen)
    affordable = BUDGET / max(one.seconds * per_epoch, 1e-9)
    return int(min(max(math.ceil(UPDATES / per_epoch), 3), max(affordable, 1)))


def described(seen: Survey, classes: tuple[str, ...]) -> list[str]:
    """What the data are like, in sentences with numbers."""
    height, width, channels = seen.shape
    smallest, largest = min(seen.counts), max(seen.counts)
    empty = [name for name, count in zip(classes, seen.counts, strict=True) if not count]
    lines = [
        f"{seen.train} training and {seen.test} test images of {height}x{width}x{channels}, {len(classes)} "
        f"classes of {smallest} to {largest} images",
        f"brightness {seen.mean:.2f}, contrast (deviation) {seen.std:.2f}; neighbouring pixels correlate by "
        f"{seen.structure:.2f}",
        f"copies: {seen.duplicates:.1%} of the training images; near-duplicates: {seen.near_duplicates:.1%}, "
        f"{seen.conflicts:.1%} of them with another label",
        f"probes: largest class {seen.chance:.1%}, linear {seen.linear:.1%}, kernel {seen.curved:.1%} "
        f"(standard error {seen.error:.1%}), from half of the images {seen.half:.1%}",
        f"the kernel probe on mirrored images {seen.mirrored:.1%}, on images moved by {seen.shift} "
        f"{_pixels(seen.shift)} {seen.shifted:.1%}",
    ]
    if empty:
        lines.append(f"CAUTION: no training image of {', '.join(empty)}")
    if seen.leaked > 0:
        lines.append(f"CAUTION: {seen.leaked:.1%} of the test images are among the training images")
    if seen.std < 0.05:
        lines.append(f"CAUTION: hardly any contrast (deviation {seen.std:.3f}); are these the right images?")
    if seen.curved <= seen.chance + 2 * seen.error:
        lines.append(
            "CAUTION: no probe beats the largest class: the labels may have nothing to do with the images"
        )
    return lines


def advice(seen: Survey, trials: list[Trial]) -> tuple[dict[str, Any], list[Reason]]:
    """Options of training, and why."""
    adam = [one for one in trials if one.optimizer == "adam"]
    model = better(adam, seen)
    best = max([one for one in trials if one.model == model.model], key=lambda one: one.accuracy)
    makers: list[Callable[..., tuple[dict[str, Any], Reason]]] = [
        _model,
        _optimizer,
        _rate,
        _loss,
        _normalization,
        _regularizer,
        _augmentation,
        _length,
    ]
    options, reasons = {}, []
    for make in makers:
        more, reason = make(seen, trials, best)
        options |= more
        reasons.append(reason)
    return options, reasons


def _model(seen: Survey, trials: list[Trial], best: Trial) -> tuple[dict[str, Any], Reason]:
    others = [one for one in trials if one.optimizer == "adam"]
    shown = ", ".join(f"{one.model} {one.accuracy:.1%}" for one in others)
    if len(others) == 1:
        why = (
            f"neighbouring pixels correlate by {seen.structure:.2f} only, so convolutions have nothing to go by"
            if seen.structure < PICTURE
            else f"images of {seen.shape[0]}x{seen.shape[1]} are too small for convolutions"
        )
    else:
        why = f"of {others[0].kept} images kept aside {shown} (standard error {error_of(best):.1%})"
    gain = seen.curved - seen.linear
    linear = "no more than" if gain <= 2 * seen.error else f"{100 * gain:.1f} points more than"
    return {"model": best.model}, Reason("model", best.model, f"{why}; a kernel probe finds {linear} a linear one")


def _optimizer(_: Survey, trials: list[Trial], best: Trial) -> tuple[dict[str, Any], Reason]:
    shown = ", ".join(f"{one.optimizer} {one.accuracy:.1%}" for one in trials if one.model == best.model)
    extra = {"momentum": 0.9, "nesterov": True} if best.optimizer == "sgd" else {}
    name = "sgd with momentum 0.9" if extra else best.optimizer
    return {"optimizer": best.optimizer, **extra}, Reason("optimizer", name, f"at the best rate of each: {shown}")


def _rate(_: Survey, __: list[Trial], best: Trial) -> tuple[dict[str, Any], Reason]:
    why = f"while it rose the loss was lowest at {best.lowest_at:.2g}; a tenth of that, rising and falling once"
    return {"lr": best.lr, "schedule": "one_cycle"}, Reason("learning rate", f"{best.lr:g}, one cycle", why)


def _loss(seen: Survey, *_: Any) -> tuple[dict[str, Any], Reason]:
    options: dict[str, Any] = {}
    why = f"{len(seen.counts)} classes, {seen.imbalance:.1f} images of the largest for one of the smallest"
    if seen.imbalance >= IMBALANCED:
        options["class_weight"] = "balanced"
        why += f", so that saying the largest is right in {seen.chance:.0%}: rare classes have to weigh more"
    if seen.near_duplicates * seen.conflicts > 0.005:
        options["label_smoothing"] = 0.1
        why += f"; {seen.conflicts:.0%} of near-duplicates disagree on their label: smoothing trusts labels less"
    name = "cross-entropy" + "".join(
        f", {word}"
        for key, word in (("class_weight", "balanced"), ("label_smoothing", "smoothed"))
        if key in options
    )
    return options, Reason("loss", name, why)


def _normalization(seen: Survey, *_: Any) -> tuple[dict[str, Any], Reason]:
    why = f"the pixels have mean {seen.mean:.2f} and deviation {seen.std:.2f}, layers start best at 0 and 1"
    return {"normalize": True}, Reason("input", "normalized", why)


def _regularizer(seen: Survey, _: list[Trial], best: Trial) -> tuple[dict[str, Any], Reason]:
    gap, climbs = best.train_accuracy - best.accuracy, seen.curved - seen.half
    shown = (
        f"after {STEPS} steps {100 * gap:+.1f} points between seen and other images, and twice the images gave "
        f"the probe {100 * climbs:+.1f}"
    )
    hungry = climbs > 2 * seen.error or gap > 2 * error_of(best)
    if seen.train < FEW and hungry:
        return {"dropout": 0.5, "early_stop": 5}, Reason(
            "regulariser", "dropout 0.5, early stopping", f"{seen.train} images, {shown}: it will overfit"
        )
    if hungry:
        return {"dropout": 0.25}, Reason(
            "regulariser", "dropout 0.25", f"{shown}, but there are {seen.train} images"
        )
    return {}, Reason("regulariser", "none", f"{shown}: no sign of overfitting yet")


def _augmentation(seen: Survey, *_: Any) -> tuple[dict[str, Any], Reason]:
    parts, why = [], []
    if not could_be_picture(seen):
        return {}, Reason("augmentation", "none", "these are no pictures that could be moved")
    lost = seen.curved - seen.shifted
    if lost > 2 * seen.error:
        parts.append(f"crop:{seen.shift}")
        why.append(f"moving by {seen.shift} {_pixels(seen.shift)} costs the probe {100 * lost:.0f} points")
    else:
        why.append(f"moving by {seen.shift} {_pixels(seen.shift)} changes nothing")
    if seen.curved - seen.mirrored <= 2 * seen.error:
        parts.append("flip")
        why.append(f"mirrored images are known as well ({seen.mirrored:.0%})")
    else:
        why.append(f"mirrored ones are others ({seen.mirrored:.0%} instead of {seen.curved:.0%}): no flip")
    return {"augment": ",".join(parts)}, Reason("augmentation", ",".join(parts) or "none", "; ".join(why))


def _length(seen: Survey, _: list[Trial], best: Trial) -> tuple[dict[str, Any], Reason]:
    batch, epochs, per_epoch = _batch(seen), passes(best, seen), _steps_per_epoch(seen)
    time = best.seconds * per_epoch * epochs
    why = f"{epochs * per_epoch} updates; at {1000 * best.seconds:.3g} ms a step about {_duration(time)} here"
    return {"batch_size": batch, "epochs": epochs}, Reason("length", f"{epochs} epochs, batches of {batch}", why)


def _batch(seen: Survey) -> int:
    return min(64 if seen.train < FEW else 128, seen.train)


def _steps_per_epoch(seen: Survey) -> int:
    return math.ceil(seen.train / _batch(seen))


def _pixels(count: int) -> str:
    return "pixel" if count == 1 else "pixels"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
