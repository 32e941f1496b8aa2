"""Uses a trained run: ``python -m jaxdl.predict RUN IMAGE...`` or ``python -m jaxdl.predict RUN --evaluate``.

Exit status: 0; 2 where the run, an image or the data cannot be used.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxdl.command_line import command_line
from jaxdl.config import parse

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.inference import Trained

PROG = "python -m jaxdl.predict"


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """What to classify."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Image files."""
    resize: bool = False
    """Scale images of another size to the model's; otherwise they are an error."""
    invert: bool = False
    """Swap black and white: MNIST's digits are white on black, a scan is black on white."""
    evaluate: bool = False
    """Measure the accuracy on the test images of the run's data set."""
    data_dir: Path | None = None
    """Where that data set lies now, if it was moved."""


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Classifies images with a trained run."""

    predict: PredictOptions = dataclasses.field(default_factory=PredictOptions)


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    options = parse(PredictConfig(), argv, PROG).predict
    if options.run is None or not (options.images or options.evaluate):
        raise ValueError("expected a run's folder and images, or --evaluate; see --help")
    from jaxdl import inference
    from jaxdl.engine.host import set_up
    from jaxdl.quantize import codes

    set_up()
    in_int8 = (options.run / codes.FILE).exists()
    trained = (codes.load if in_int8 else inference.load)(options.run)
    if options.images:
        classify(trained, options)
    if options.evaluate:
        evaluate(trained, options)
    return 0


def classify(trained: "Trained", options: PredictOptions) -> None:
    """Prints the most likely class of each image, its probability, and the next."""
    import numpy as np

    from jaxdl.data.folder import read_image

    height, width, channels = trained.seen.shape
    size = (height, width) if options.resize else None
    images = [read_image(path, channels, size) for path in options.images]
    for path, image in zip(options.images, images, strict=True):
        if image.shape != trained.seen.shape:
            raise ValueError(
                f"{path} has {image.shape[0]}x{image.shape[1]} pixels, the model takes {height}x{width}; "
                "--resize scales it"
            )
    batch = np.stack(images)
    probabilities = trained.predict(255 - batch if options.invert else batch)
    names = trained.seen.classes
    for path, row in zip(options.images, probabilities, strict=True):
        first, second = np.argsort(row)[::-1][:2]
        print(f"{path}: {names[first]} ({row[first]:.1%}; next {names[second]}, {row[second]:.1%})")


def evaluate(trained: "Trained", options: PredictOptions) -> None:
    """Prints the loss and the accuracy on the test images."""
    from jaxdl.data import sources

    data = trained.config.data
    source = sources.load(data.dataset or "mnist", options.data_dir or data.data_dir)
    means: dict[str, Any] = trained.evaluate(source)
    count = len(source.test["label"])
    print(f"Test loss: {means['loss']:.4f}")
    print(f"Accuracy of the network on the {count} test images: {means['accuracy']:.2%}")


if __name__ == "__main__":
    sys.exit(main())
