"""Options of ``python -m jaxdl.consistency``, and what they change of a plain run."""

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Literal

from jaxdl.config import DataOptions, ModelOptions, OptimizerOptions, RunOptions, TrainConfig, replace

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source
    from jaxdl.typing import LossFn

METHODS = ("supervised", "rdrop", "pi", "mean_teacher", "fixmatch")
WEAK = "crop:2"


@dataclasses.dataclass(frozen=True)
class ConsistencyOptions:
    """How images without labels are used. An option that the method has no use for is an error."""

    method: Literal["supervised", "rdrop", "pi", "mean_teacher", "fixmatch"] = "fixmatch"
    """supervised: not at all, the baseline. rdrop: two dropout masks agree, on the labelled images. pi: two views
    agree. mean_teacher: with the average of earlier weights. fixmatch: the strong view with the weak one, where
    the model is sure."""
    labels: int = 100
    """Training images that keep their label, of each class as many as of the next."""
    ratio: int = 4
    """Images without a label to one with, in a batch."""
    weight: float | None = None
    """Of the consistency in the loss. Without it: 1 (fixmatch, rdrop), 20 (pi, mean_teacher)."""
    ramp: int | None = None
    """Steps in which that weight rises to its value (pi, mean_teacher). Without it: 400."""
    decay: float | None = None
    """Of the teacher's average (mean_teacher). Without it: 0.99."""
    threshold: float | None = None
    """Probability from which on the model is sure (fixmatch). Without it: 0.95."""
    strong: str | None = None
    """Augmentation of the strong view (fixmatch); weak views have --augment. Without it:
    affine:25:0.1:0.2,erase:0.7."""
    compare: bool = False
    """Train every method with several seeds and compare them. Their options are the defaults."""
    seeds: int = 3
    """How many (--compare); they are --seed, --seed + 1, and so on."""


DEFAULTS: dict[str, dict[str, Any]] = {
    "supervised": {},
    "rdrop": {"weight": 1.0},
    "pi": {"weight": 20.0, "ramp": 400},
    "mean_teacher": {"weight": 20.0, "ramp": 400, "decay": 0.99},
    "fixmatch": {"weight": 1.0, "threshold": 0.95, "strong": "affine:25:0.1:0.2,erase:0.7"},
}


@dataclasses.dataclass(frozen=True)
class ConsistencyConfig(TrainConfig):
    """All options of ``python -m jaxdl.consistency``."""

    data: DataOptions = dataclasses.field(
        default_factory=lambda: DataOptions(batch_size=32, augment=WEAK, normalize=True)
    )
    model: ModelOptions = dataclasses.field(
        default_factory=lambda: ModelOptions(model="cnn", channels=(16, 32), dropout=0.3)
    )
    optim: OptimizerOptions = dataclasses.field(
        default_factory=lambda: OptimizerOptions(optimizer="adam", lr=0.002, schedule="one_cycle")
    )
    run: RunOptions = dataclasses.field(default_factory=lambda: RunOptions(epochs=4))
    consistency: ConsistencyOptions = dataclasses.field(default_factory=ConsistencyOptions)


def completed(options: ConsistencyOptions) -> ConsistencyOptions:
    """The options with a value for each that the method takes.

    Raises:
      ValueError: one that it has no use for.
    """
    defaults = DEFAULTS[options.method]
    for name in ("weight", "ramp", "decay", "threshold", "strong"):
        if name not in defaults and getattr(options, name) is not None:
            raise ValueError(f"--{name} has no meaning for {options.method}")
    missing = {name: value for name, value in defaults.items() if getattr(options, name) is None}
    return dataclasses.replace(options, **missing)


def technique(config: ConsistencyConfig, source: "Source") -> "Technique":
    """What the method changes of a plain run.

    Raises:
      ValueError: a number outside its range, or dropout that R-Drop lacks.
    """
    from jaxdl import build
    from jaxdl.methods import consistency
    from jaxdl.pictures import Pictures

    options = completed(config.consistency)
    if options.method == "rdrop" and not config.model.dropout:
        raise ValueError("rdrop compares two dropout masks: expected --dropout above 0")
    if (options.ramp or 0) < 0:
        raise ValueError(f"--ramp must be at least 0; got {options.ramp}")
    seen = Pictures.of(source, config.data)  # of all images, not of the labelled ones
    weak = seen.inputs(config.data.augment)
    unlabelled = {
        "pi": (weak, weak),
        "mean_teacher": (weak, weak),
        "fixmatch": (weak, seen.inputs(options.strong or "")),
    }.get(options.method, ())
    decay = options.decay or 0.0
    wrapped: dict[str, Any] = {
        "pi": {"model": consistency.Counted, "deploy": consistency.deploy_student},
        "mean_teacher": {
            "model": functools.partial(consistency.MeanTeacher, decay=decay),
            "deploy": functools.partial(consistency.deploy_teacher, decay=decay),
        },
    }
    return build.Technique(
        data=lambda source: consistency.with_unlabelled(source, options.labels, options.ratio, config.run.seed),
        seen=lambda _: seen,
        objective=lambda plain: loss(plain, options),
        inputs=lambda _: consistency.views(weak, *unlabelled),
        **wrapped.get(options.method, {}),
    )


def loss(plain: "LossFn", options: ConsistencyOptions) -> "LossFn":
    """The loss of the method, with complete options.

    Raises:
      ValueError: a number outside its range.
    """
    from jaxdl.methods import consistency

    weight, ramp = options.weight or 0.0, options.ramp or 0
    if weight < 0:
        raise ValueError(f"--weight must be at least 0; got {weight}")
    return {
        "supervised": lambda: plain,
        "rdrop": lambda: consistency.r_drop(plain, weight),
        "pi": lambda: consistency.pi_model(plain, weight, ramp),
        "mean_teacher": lambda: consistency.mean_teacher(plain, weight, ramp),
        "fixmatch": lambda: consistency.fixmatch(plain, weight, options.threshold or 0.0),
    }[options.method]()


def with_method(config: ConsistencyConfig, method: str, seed: int) -> ConsistencyConfig:
    """The options of one training of a comparison."""
    alone = {"compare": False, "seeds": ConsistencyOptions().seeds}  # it is the same run in a larger comparison
    return replace(config, {"method": method, "seed": seed, **alone})
