"""Everything that is written is read back with TensorBoard's own reader."""

import io
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from jaxdl.engine.tensorboard import TensorBoard
from jaxdl.nn.linear import Linear

HParams: Any = vars(plugin_data_pb2)["HParamsPluginData"]  # made at import time: no type checker knows it


def read(logdir: Path, **options) -> EventAccumulator:
    everything = {"scalars": 0, "tensors": 0, "histograms": 0, "images": 0}
    return EventAccumulator(str(logdir), everything, **options).Reload()


def train(step: int, loss: float = 0.5) -> dict:
    return {
        "kind": "train",
        "step": step,
        "epoch": step / 938,
        "loss": loss,
        "accuracy": 0.75,
        "batch_loss": 0.25,
        "lr": 0.01,
        "steps_per_second": 5400.0,
    }


def log_all(board: TensorBoard, steps, loss: float = 0.5) -> None:
    for step in steps:
        board.write(train(step, loss))


def log_steps(logdir: Path, steps, resume_step=None, loss: float = 0.5) -> None:
    board = TensorBoard(logdir, resume_step)
    log_all(board, steps, loss)
    board.close()


def points(events: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_scalars(tmp_path):
    board = TensorBoard(tmp_path / "new" / "folder")
    board.write(train(100))
    board.write({"kind": "eval", "step": 938, "epoch": 1.0, "loss": 0.125, "accuracy": 0.875, "top5": 1.0})
    events = read(tmp_path / "new" / "folder")  # before anything is closed
    assert {tag: points(events, tag) for tag in events.Tags()["scalars"]} == {
        "loss/train": [(100, 0.5)],
        "accuracy/train": [(100, 0.75)],
        "lr": [(100, pytest.approx(0.01))],
        "steps_per_second": [(100, 5400.0)],
        "loss/test": [(938, 0.125)],
        "accuracy/test": [(938, 0.875)],
        "top5/test": [(938, 1.0)],
    }
    board.close()
    board.close()


@pytest.mark.parametrize("purge", [True, False])
def test_a_resumed_run_has_every_point_once(tmp_path, purge):
    log_steps(tmp_path, range(1, 10))
    log_steps(tmp_path, range(5, 13), resume_step=4, loss=0.25)
    log_steps(tmp_path, [], resume_step=6)
    log_steps(tmp_path, range(7, 9), resume_step=6, loss=0.125)
    events = read(tmp_path, purge_orphaned_data=purge)
    losses = [0.5] * 4 + [0.25] * 2 + [0.125] * 2
    assert points(events, "loss/train") == list(zip(range(1, 9), losses, strict=True))


def test_a_resumed_run_replaces_what_a_run_writes_once(tmp_path):
    for resume_step in (None, 2):
        board = TensorBoard(tmp_path, resume_step)
        board.structure(Linear(4, 2, rngs=nnx.Rngs(0)), jnp.zeros((1, 4)))
        board.write(train(2 if resume_step is None else 3))
        board.hparams({"epochs": 1 if resume_step is None else 2}, {"loss": 0.5})
        board.close()
    events = read(tmp_path, purge_orphaned_data=False)
    assert len(events.Tensors("model/text_summary")) == 1
    assert points(events, "final/loss") == [(3, 0.5)]
    assert session(events)["epochs"].number_value == 2


@pytest.mark.parametrize("cut", [1, 3, 20, 90])
def test_a_torn_end_is_left_out(tmp_path, cut):
    log_steps(tmp_path, range(1, 4))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    (tmp_path / f".{file.name}.x.tmp").write_bytes(file.read_bytes())  # of a resume that was killed
    log_steps(tmp_path, [3, 4], resume_step=2)
    assert [step for step, _ in points(read(tmp_path), "loss/train")] == [1, 2, 3, 4]


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    log_steps(tmp_path, [1])
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[12:20] = b"\xff" * 8
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"tfevents.* is damaged at byte 0: expected an event; delete the file"):
        TensorBoard(tmp_path, 1)
    assert file.read_bytes() == content


def test_a_full_disk_is_an_oserror_of_the_write(tmp_path):
    board = TensorBoard(tmp_path)
    board.write(train(1))
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, old[1][1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            log_all(board, range(2, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old[1])
        signal.signal(signal.SIGXFSZ, old[0])
    board.close()
    assert [step for step, _ in points(read(tmp_path), "loss/train")][:2] == [1, 2]


def test_histograms(tmp_path):
    board = TensorBoard(tmp_path)
    arrays = {
        "fc1.weight": jnp.arange(6.0).reshape(2, 3),
        "zeros": jnp.zeros(5),
        "half": jnp.asarray([1.0, 3.0], jnp.bfloat16),
        "holes": jnp.asarray([jnp.nan, 2.0, jnp.inf]),
        "nothing": jnp.asarray([jnp.nan]),
    }
    board.histograms(7, arrays, "gradients")
    board.close()
    events = read(tmp_path)
    (event,) = events.Histograms("gradients/fc1.weight")
    shown = event.histogram_value
    assert (event.step, shown.min, shown.max, shown.num, shown.sum, shown.sum_squares) == (7, 0, 5, 6, 15, 55)
    assert (sum(shown.bucket), sum(c > 0 for c in shown.bucket)) == (6, 6)
    counts = {tag: sum(events.Histograms(tag)[0].histogram_value.bucket) for tag in events.Tags()["histograms"]}
    assert counts == {"gradients/fc1.weight": 6, "gradients/zeros": 5, "gradients/half": 2, "gradients/holes": 1}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_show_what_is_right_and_what_is_wrong(tmp_path, channels):
    board = TensorBoard(tmp_path)
    images = np.full((3, 28, 28, channels), 200, np.uint8)
    board.images(5, images, np.array([0, 1, 1]), np.array([0, 0, 1]), ["zero", "one"])
    board.close()
    (event,) = read(tmp_path).Images("predictions")
    grid = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    height, width = grid.shape[0] // 2, grid.shape[1] // 2  # a grid of 2 x 2, one place left empty
    corners = [grid[y * height, x * width].tolist() for y in (0, 1) for x in (0, 1)]
    assert corners == [[0, 114, 178], [213, 94, 0], [0, 114, 178], [255, 255, 255]]
    assert grid[20, 20].tolist() == [200, 200, 200]
    assert (event.step, event.height, event.width) == (5, *grid.shape[:2])


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8, 1), np.float32), np.zeros((8, 8, 1), np.uint8)])
def test_images_of_another_kind_are_refused(tmp_path, images):
    board = TensorBoard(tmp_path)
    with pytest.raises(ValueError, match=r"expected images \(N, H, W, C\) of uint8, got \("):
        board.images(1, images, np.array([0]), np.array([0]), ["a"])
    board.close()


def session(events: EventAccumulator):
    tag = "_hparams_/session_start_info"
    content = events.SummaryMetadata(tag).plugin_data.content
    return HParams.FromString(content).session_start_info.hparams


def test_hparams(tmp_path):
    board = TensorBoard(tmp_path)
    board.write(train(9380))
    board.hparams({"lr": 0.01, "epochs": 10, "augment": False, "model": "net"}, {"accuracy": 0.875})
    board.close()
    events = read(tmp_path)
    values = session(events)
    assert (values["lr"].number_value, values["epochs"].number_value) == (0.01, 10)
    assert (values["augment"].bool_value, values["model"].string_value) == (False, "net")
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    (metric,) = HParams.FromString(content).experiment.metric_infos
    assert points(events, metric.name.tag) == [(9380, 0.875)]


def test_neither_torch_nor_tensorflow_is_imported(tmp_path):
    code = (
        "import sys\nfrom jaxdl.engine.tensorboard import TensorBoard\n"
        "assert 'tensorboardX' not in sys.modules\n"
        "TensorBoard(sys.argv[1]).close()\n"
        "assert 'tensorboardX' in sys.modules\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
