"""The figures: what they say, that odd runs do not disturb them, and that they arrive whole."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdl.engine import plots

FASHION = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
]
NAN, INF = math.nan, math.inf


def record(kind, epoch, loss, accuracy):
    return {"kind": kind, "step": round(100 * epoch), "epoch": epoch, "loss": loss, "accuracy": accuracy}


def train(*losses, accuracy=0.9):
    """One record every half epoch."""
    return [record("train", (i + 1) / 2, loss, accuracy) for i, loss in enumerate(losses)]


def evaluated(*accuracies, loss=0.5):
    """One record an epoch."""
    return [record("eval", i + 1.0, loss, accuracy) for i, accuracy in enumerate(accuracies)]


@pytest.fixture
def drawn(monkeypatch):
    """The figures, as they were saved."""
    figures, save = [], plots.figure.save
    monkeypatch.setattr(plots.figure, "save", lambda drawn, path: (figures.append(drawn), save(drawn, path)))
    return figures


@pytest.fixture
def curves(drawn, tmp_path):
    def draw(records):
        plots.training_curves(records, tmp_path / "curves.png")
        return drawn[-1].axes

    return draw


@pytest.fixture
def confusion(drawn, tmp_path):
    def draw(counts, classes=None):
        names = [str(i) for i in range(len(counts))] if classes is None else classes
        plots.confusion_matrix(np.array(counts), names, tmp_path / "confusion.png")
        return drawn[-1].axes[0]

    return draw


def line(axes, name):
    """The points of a curve, by its colour."""
    (found,) = [x for x in axes.lines if x.get_color() == plots.COLOURS[name] and x.get_linestyle() != "None"]
    return found.get_xydata()


def ring(axes):
    """Where the best accuracy is marked."""
    (found,) = [x for x in axes.lines if x.get_markerfacecolor() == "none"]
    return found.get_xydata().tolist()


def texts(axes):
    return [text.get_text() for text in axes.texts]


def title(axes):
    return axes.get_title(loc="left")


# Curves.


def test_train_and_test_over_the_epochs(curves):
    loss, accuracy = curves([*train(1.0, 0.8, 0.7, 0.6, accuracy=0.75), *evaluated(0.5, 0.625, loss=0.9)])
    np.testing.assert_array_equal(line(loss, "train"), [(0.5, 1.0), (1, 0.8), (1.5, 0.7), (2, 0.6)])
    np.testing.assert_array_equal(line(loss, "test"), [(1, 0.9), (2, 0.9)])
    np.testing.assert_array_equal(line(accuracy, "train"), [(0.5, 75), (1, 75), (1.5, 75), (2, 75)])
    np.testing.assert_array_equal(line(accuracy, "test"), [(1, 50), (2, 62.5)])
    assert texts(loss) == ["train 0.6", "test 0.9"]
    assert texts(accuracy) == ["test 62.50%", "train 75.00%"]
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"


@pytest.mark.parametrize(
    ("accuracies", "epoch", "percent"),
    [((0.9, 0.975, 0.95), 2, "97.50"), ((0.9, 0.9), 2, "90.00"), ((0.8, NAN), 1, "80.00"), ((0.0,), 1, "0.00")],
)
def test_the_best_test_accuracy_is_marked(curves, accuracies, epoch, percent):
    _, accuracy = curves([*train(1.0, 0.9), *evaluated(*accuracies)])
    assert ring(accuracy) == [[epoch, float(percent)]]
    assert title(accuracy) == f"Accuracy, best on test data {percent}% at epoch {epoch}"


def test_the_epoch_of_the_best_may_be_a_part_or_large(curves):
    assert title(curves([record("eval", 1234.0, 1, 0.5)])[1]).endswith("at epoch 1234")
    assert title(curves([record("eval", 1 / 3, 1, 0.5)])[1]).endswith("at epoch 0.33")


def test_without_a_test_value_no_best_is_claimed(curves):
    for records in (train(1.0, 0.9), [*train(1.0), *evaluated(NAN)]):
        _, accuracy = curves(records)
        assert title(accuracy) == "Accuracy"
        assert [x.get_markerfacecolor() for x in accuracy.lines].count("none") == 0


@pytest.mark.parametrize(
    ("losses", "scale"),
    [((2.0, 0.21), "linear"), ((2.0, 0.2), "log"), ((2.0, 0.0), "linear"), ((3e38, 1e-38), "log")],
)
def test_the_loss_is_logarithmic_where_it_falls_to_a_tenth(curves, losses, scale):
    loss, accuracy = curves([*train(*losses), *evaluated(0.9, loss=losses[0])])
    assert loss.get_yscale() == scale
    assert title(loss) == ("Loss (logarithmic)" if scale == "log" else "Loss")
    assert accuracy.get_yscale() == "linear"


def test_what_is_not_finite_leaves_a_gap(curves):
    loss, _ = curves([*train(1.0, NAN, INF, 0.9, 0.8), *evaluated(0.9)])
    np.testing.assert_array_equal(line(loss, "train")[:, 1], [1.0, NAN, NAN, 0.9, 0.8])


def test_a_last_value_that_is_not_finite_is_said(curves):
    assert texts(curves([*train(1.0, NAN), *evaluated(0.9)])[0]) == ["test 0.5", "train nan"]


def test_the_accuracy_shows_the_late_differences_and_all_test_values(curves):
    early, late = [record("train", 0.1, 2, 0.1)], [record("train", 0.1 * i, 1, 0.97) for i in range(2, 40)]
    assert curves([*early, *late, *evaluated(0.96, 0.98)])[1].get_ylim()[0] > 90
    assert curves([*early, *late, *evaluated(0.5, 0.98)])[1].get_ylim()[0] < 50


@pytest.mark.parametrize("low", [0.1, 0.9, 0.99, 1.0])
def test_no_tick_lies_beyond_all_of_the_examples(curves, low):
    _, accuracy = curves([*train(1.0, accuracy=low), *evaluated(low, 1.0)])
    bottom, top = accuracy.get_ylim()
    assert top > 100
    assert max(tick for tick in accuracy.get_yticks() if bottom <= tick <= top) == pytest.approx(100)


@pytest.mark.parametrize("difference", [0.0, 0.001, -0.001, 0.3])
def test_labels_do_not_touch(curves, difference):
    accuracies = [record("train", 0.5, 1, 0.4), record("train", 1.0, 1, 0.6 + difference)]
    for axes in curves([*accuracies, *evaluated(0.6, loss=1 + difference)]):
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not boxes[0].overlaps(boxes[1])
        assert axes.texts[0].get_position()[1] < axes.texts[1].get_position()[1]


@pytest.mark.parametrize(
    "records",
    [
        [],
        train(1.0),
        evaluated(1.0),
        [record("train", 0.01, 2.3, 0.1)],
        [*train(0.5, 0.4), *evaluated(0.9)],
        [*train(NAN, NAN, accuracy=NAN), *evaluated(NAN, loss=INF)],
        [*train(0.0, 0.0, accuracy=1.0), *evaluated(1.0, 1.0, loss=0.0)],
        [*train(*np.geomspace(1e6, 1e-9, 40)), *evaluated(*np.linspace(0, 1, 20))],
    ],
    ids=["none", "one", "one-test", "one-step", "one-epoch", "nothing-finite", "perfect", "long"],
)
def test_every_run_gives_a_picture(records, tmp_path):
    plots.training_curves(records, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert (image.format, image.size) == ("PNG", (1000, 400))
        image.load()


# Confusion.


def test_counts_are_written_where_they_belong_and_zeros_are_not(confusion):
    axes = confusion([[5, 2, 0], [0, 7, 1], [3, 0, 2]])
    found = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "5", (0, 1): "2", (1, 1): "7", (1, 2): "1", (2, 0): "3", (2, 2): "2"}
    assert title(axes) == "Accuracy 70.00%: 14 of 20"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")


def test_colour_is_the_share_of_the_true_class_and_the_diagonal_has_none(confusion):
    cells = confusion([[6, 2, 0], [0, 9, 1], [5, 0, 5]]).images[0]
    shares = np.ma.filled(cells.get_array(), NAN)
    np.testing.assert_array_equal(shares, [[NAN, 0.25, 0], [0, NAN, 0.1], [0.5, 0, NAN]])
    assert cells.get_clim() == (0, 0.5)
    red, green, blue, _ = cells.to_rgba(cells.get_array())[0, 0]
    assert max(red, green, blue) - min(red, green, blue) < 0.05  # grey


def test_a_class_without_examples_is_named_so(confusion):
    axes = confusion([[1, 1], [0, 0]], ["cat", "dog"])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog (none)"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog"]
    assert title(axes) == "Accuracy 50.00%: 1 of 2"
    assert title(confusion(np.zeros((2, 2), int))) == "No examples"


@pytest.mark.parametrize("count", [1, 2, 20, 21, 50, 120])
def test_any_number_of_classes(confusion, count):
    axes = confusion(np.full((count, count), 3), [f"class number {i}" for i in range(count)])
    assert len(axes.texts) == (count**2 if count <= 20 else 0)
    width, height = axes.figure.canvas.get_width_height()
    assert max(width, height) <= 1400
    names = axes.get_yticklabels()
    assert len(names) == (count if count <= 50 else 40)
    boxes = [label.get_window_extent() for label in names]
    assert not any(upper.overlaps(lower) for upper, lower in itertools.pairwise(boxes))
    for label in [*names, *axes.get_xticklabels()]:
        box = label.get_window_extent()
        assert box.x0 >= 0 <= box.y0
        assert box.x1 <= width
        assert box.y1 <= height


def test_names_are_readable(confusion):
    axes = confusion(100 * np.eye(10, dtype=int), FASHION)
    assert [label.get_text() for label in axes.get_xticklabels()] == FASHION
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {45}
    assert {label.get_rotation() for label in confusion(np.eye(10, dtype=int)).get_xticklabels()} == {0}
    assert {label.get_rotation() for label in confusion(np.eye(30, dtype=int)).get_xticklabels()} == {0}


def test_strange_names_are_shown_as_they_are(confusion):
    names = ["$5 and $6", "$\\frac$", "猫", "", "x" * 200]
    shown = [label.get_text() for label in confusion(np.eye(5, dtype=int), names).get_yticklabels()]
    assert shown[:4] == names[:4]
    assert shown[4] == "x" * 23 + "…"


def test_counts_have_to_fit_the_names(tmp_path):
    with pytest.raises(ValueError, match=r"expected counts of shape \(2, 2\), as there are names; got \(3, 3\)"):
        plots.confusion_matrix(np.eye(3, dtype=int), ["a", "b"], tmp_path / "x.png")


# Files.


def test_a_failure_leaves_the_old_file_alone(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError("no space left on device")

    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(OSError, match="no space left"):
        plots.training_curves(train(1.0), path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("curves.png", b"old")]


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path):
    code = f"""
import pathlib, sys
from jaxdl.engine import plots
assert "matplotlib" not in sys.modules
plots.training_curves([], pathlib.Path({str(tmp_path / "x.png")!r}))
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
