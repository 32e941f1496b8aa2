"""TensorBoard files without TensorFlow: scalars, histograms, images, hyper-parameters, the model's graph."""

import functools
import importlib
import math
import os
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from flax import nnx

from jaxdl.engine import graph
from jaxdl.engine.log import Record, close_synced, write_all
from jaxdl.files import write_atomic
from jaxdl.typing import Array

_SPLIT = {"train": "train", "eval": "test", "validation": "validation"}
_UNSPLIT = ("lr", "steps_per_second")
_HIDDEN = ("kind", "step", "epoch", "time", "batch_loss")
_ONCE = ("model/", "_hparams_/", "final/")  # tags that a run writes once
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)  # blue and vermilion: told apart by colour-blind eyes too


class TensorBoard:
    """A run's folder for ``tensorboard --logdir``. Everything is in the file as soon as a method returns.

    Args:
      logdir: made if missing.
      resume_step: None for a new run; a number drops what was logged after that step.

    Raises:
      OSError: by any method, when the disk is full or fails.
      ValueError: when a file to resume is damaged.
    """

    def __init__(self, logdir: str | os.PathLike[str], resume_step: int | None = None) -> None:
        self._step = resume_step or 0
        logdir = Path(logdir)
        logdir.mkdir(parents=True, exist_ok=True)
        if resume_step is not None:
            _drop_later(logdir, resume_step)
        # TensorBoard reads the files in the order of their names.
        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        self._file = (logdir / f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}").open("xb", buffering=0)
        self._add(file_version="brain.Event:2")
        if resume_step is not None:  # for a TensorBoard that has read what was dropped
            start = {"status": _tensorboardx().event.SessionLog.START}
            self._add(session_log=start, step=resume_step + 1)

    def write(self, record: Record) -> None:
        """One point each of ``loss/train``, ``accuracy/test``, ``lr``, ``steps_per_second`` and the like."""
        split = _SPLIT[record["kind"]]
        values = {
            name if name in _UNSPLIT else f"{name}/{split}": value
            for name, value in record.items()
            if name not in _HIDDEN
        }
        self._step = record["step"]
        self._add(summary=_scalars(values), step=self._step)

    def histograms(self, step: int, arrays: Mapping[str, Array], prefix: str) -> None:
        """The distribution of each array, by its name. Only finite values count; none of them, no histogram."""
        histogram = _tensorboardx().summary.histogram
        for name, array in arrays.items():
            values = np.asarray(array).astype(np.float32).ravel()
            values = values[np.isfinite(values)]
            if values.size:
                self._add(summary=histogram(f"{prefix}/{name}", values, bins=64), step=step)

    def images(
        self, step: int, images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]
    ) -> None:
        """One grid of images with the class predicted, and the true one where that is wrong.

        Args:
          images: (N, H, W, C) uint8; of other channels than 1 or 3 the first, or the first three, are shown.
          labels, predictions: (N,) indices into ``classes``.

        Raises:
          ValueError: when the images are something else.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
            raise ValueError(f"expected images (N, H, W, C) of uint8, got {images.shape} of {images.dtype}")
        grid = _grid(images, labels, predictions, classes)
        self._add(summary=_tensorboardx().summary.image("predictions", grid, dataformats="HWC"), step=step)

    def hparams(self, values: Mapping[str, bool | int | float | str], metrics: Mapping[str, float]) -> None:
        """A row of the HPARAMS tab: the settings of the run and what it reached, as ``final/<metric>``."""
        final = {f"final/{name}": value for name, value in metrics.items()}
        for summary in [*_tensorboardx().summary.hparams(dict(values), final), _scalars(final)]:
            self._add(summary=summary, step=self._step)

    def structure(self, model: nnx.Module, image: Array) -> None:
        """The graph of ``model(image)`` in evaluation mode, and a table of its parameters.

        Args:
          model: left as it is.
          image: one batch as the model takes it; only its shape and dtype matter.
        """
        self._add(graph_def=graph.draw(_tensorboardx().graph.GraphDef(), model, image).SerializeToString())
        self._add(summary=_tensorboardx().summary.text("model", graph.table(model)))

    def close(self) -> None:
        """Puts everything on the disk. A second call does nothing."""
        close_synced(self._file)

    def _add(self, step: int = 0, **content: Any) -> None:
        """Writes one event here and now, as a TFRecord frame.

        tensorboardX's own writer is a thread: it dies when the disk is full, and the next events block for ever.
        """
        tbx = _tensorboardx()
        data = tbx.event.Event(wall_time=time.time(), step=step, **content).SerializeToString()
        size = struct.pack("<Q", len(data))
        checks = [struct.pack("<I", tbx.record.masked_crc32c(part)) for part in (size, data)]
        write_all(self._file, size + checks[0] + data + checks[1])


def _drop_later(logdir: Path, step: int) -> None:
    for leftover in logdir.glob(".*.tmp"):  # of a resume that was killed: TensorBoard would read it
        leftover.unlink()
    for path in logdir.glob("events.out.tfevents.*"):
        content = b"".join(_kept(path, step))
        write_atomic(path, lambda temporary, content=content: temporary.write_bytes(content))


def _kept(path: Path, step: int) -> Iterator[bytes]:
    """The frames of a file up to the step, without a torn end and what the resumed run writes once more."""
    data = path.read_bytes()
    start = 0
    while len(data) >= start + 12:
        end = start + 12 + struct.unpack_from("<Q", data, start)[0] + 4
        if end > len(data):
            return
        try:
            event = _tensorboardx().event.Event.FromString(data[start + 12 : end - 4])
        except _tensorboardx().message.DecodeError:
            raise ValueError(f"{path} is damaged at byte {start}: expected an event; delete the file") from None
        once = event.graph_def or any(value.tag.startswith(_ONCE) for value in event.summary.value)
        if event.step <= step and not once:
            yield data[start:end]
        start = end


@functools.cache
def _tensorboardx() -> SimpleNamespace:
    """The parts of tensorboardX that are used, imported late.

    It imports torch where it finds it, for types that are of no use here: hiding torch saves seconds.
    """
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]
    try:
        return SimpleNamespace(
            event=importlib.import_module("tensorboardX.proto.event_pb2"),
            graph=importlib.import_module("tensorboardX.proto.graph_pb2"),
            record=importlib.import_module("tensorboardX.record_writer"),
            summary=importlib.import_module("tensorboardX.summary"),
            message=importlib.import_module("google.protobuf.message"),
        )
    finally:
        if hidden:
            del sys.modules["torch"]


def _scalars(values: Mapping[str, float]) -> Any:
    return _tensorboardx().summary.Summary(value=[{"tag": k, "simple_value": v} for k, v in values.items()])


def _grid(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    from PIL import Image

    cells = [
        _cell(image, str(classes[prediction]), str(classes[label]))
        for image, label, prediction in zip(images, labels, predictions, strict=True)
    ]
    columns = math.ceil(math.sqrt(len(cells)))
    width, height = cells[0].width + 3, cells[0].height + 3
    grid = Image.new("RGB", (columns * width, math.ceil(len(cells) / columns) * height), "white")
    for index, cell in enumerate(cells):
        grid.paste(cell, (index % columns * width, index // columns * height))
    return np.asarray(grid)


def _cell(image: np.ndarray, predicted: str, true: str) -> Any:
    """The image, enlarged to be seen, in blue where the prediction is right and in vermilion where it is not."""
    from PIL import Image, ImageDraw, ImageFont

    height, width, channels = image.shape
    scale = max(1, 96 // max(height, width))
    picture = Image.fromarray(image[..., :3] if channels >= 3 else image[..., 0])
    picture = picture.resize((width * scale, height * scale), Image.Resampling.NEAREST)
    right = predicted == true
    cell = Image.new("RGB", (picture.width + 8, picture.height + 42), _RIGHT if right else _WRONG)
    cell.paste(picture, (4, 4))
    caption = predicted if right else f"{predicted}\nis {true}"
    ImageDraw.Draw(cell).text((6, picture.height + 6), caption, "white", ImageFont.load_default(size=13))
    return cell
