"""The figures of a study."""

import numpy as np
import pytest

from jaxdl.engine import figure, trials
from jaxdl.engine.trials import Point


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Calls a function with arguments and a path, and returns the panel."""

    def draw(make, *arguments):
        found, save = [], figure.save
        monkeypatch.setattr(figure, "save", lambda drawing, path: (found.append(drawing), save(drawing, path)))
        make(*arguments, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size < 200_000
        return found[0].axes[0]

    return draw


def test_the_best_so_far_is_that_of_trials_which_came_to_their_end(drawn):
    points = [Point(2, 0.99, False), Point(0, 0.9, False), Point(1, 0.95, True), Point(3, 0.97, True)]
    axes = drawn(trials.history, points)
    early, done, best = axes.lines
    np.testing.assert_array_equal(early.get_xdata(), [0, 2])
    np.testing.assert_allclose(done.get_ydata(), [95, 97])
    np.testing.assert_array_equal(best.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(best.get_ydata(), [95, 95, 97])


def test_a_trial_that_is_far_below_stands_at_the_foot(drawn):
    points = [Point(number, 0.97 + number / 1000, True) for number in range(10)] + [Point(10, 0.1, False)]
    axes = drawn(trials.history, points)
    assert axes.lines[0].get_ydata()[0] > 90
    assert axes.get_ylim()[0] < axes.lines[0].get_ydata()[0]


@pytest.mark.parametrize("points", [[Point(0, 0.5, False)], [Point(0, 0.5, True)]])
def test_one_trial_is_enough(drawn, points):
    drawn(trials.history, points)


def test_importance_is_drawn_from_the_largest_downwards(drawn):
    axes = drawn(trials.importance, {"lr": 0.7, "hidden": 0.1, "dropout": 0.2}, "What mattered")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["hidden", "dropout", "lr"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [10, 20, 70])
    assert axes.get_title(loc="left") == "What mattered"
