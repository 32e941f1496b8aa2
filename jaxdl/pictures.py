"""What a model has to know of the images it is trained on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxdl.config import DataOptions
from jaxdl.data import augmentation, resize, transforms
from jaxdl.data.sources import Source
from jaxdl.engine.step import Prepare
from jaxdl.typing import Scalar


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What a model has to know of the images it is trained on; kept with the run.

    Attributes:
      shape: (H, W, C).
      classes: their names.
      mean, std: per channel, of images in [0, 1]; empty where images are not normalized.
      fit, margin: how images of another shape are brought to this one, see `jaxdl.data.resize`; empty: not.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fit: str = ""
    margin: int = 0

    @classmethod
    def of(cls, source: Source, options: DataOptions) -> "Pictures":
        """What there is to know of a data set."""
        mean, std = source.channel_stats() if options.normalize else ((), ())
        return cls(source.image_shape, source.classes, mean, std)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Pictures":
        """What ``config.json`` says under the name images."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})  # pyright: ignore[reportArgumentType]

    def inputs(self, augment: str = "", numbers: Sequence[Scalar] | None = None) -> Prepare:
        """What makes uint8 images a model's input: ``(key, batch) -> batch``, float32.

        ``numbers`` take the place of those in ``augment``, see `jaxdl.data.augmentation.parse`.
        They are scaled to [0, 1], brought to the model's shape, augmented (which fills with black), and normalized
        where the run does so.
        """
        parts: list[transforms.Transform] = [transforms.to_float]
        if self.fit:
            parts.append(resize.fit(self.shape, self.fit, self.margin))
        if augment:
            parts.append(augmentation.parse(augment, len(self.classes), numbers))
        if self.mean:
            parts.append(transforms.normalize(self.mean, self.std))
        return transforms.compose(*parts)
