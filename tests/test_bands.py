"""The figure of a sweep: what is drawn, and that nothing of it is left out silently."""

import numpy as np
import pytest

from jaxdl.engine import bands, figure
from jaxdl.engine.bands import Line


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws lines and returns the two panels."""

    def draw(lines):
        found, save = [], figure.save
        monkeypatch.setattr(figure, "save", lambda drawing, path: (found.append(drawing), save(drawing, path)))
        bands.draw(lines, tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size < 200_000
        return found[0].axes

    return draw


def line(name, *members):
    return Line(name, np.arange(1, len(members[0]) + 1), np.array(members, float))


def test_a_band_reaches_from_the_lowest_to_the_highest_member(drawn):
    left, right = drawn([line("a", [0.9, 0.95], [0.92, 0.97])])
    (mean,) = left.lines
    np.testing.assert_allclose(mean.get_ydata(), [91, 96])
    corners = left.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((90, 97))
    members, interval, middle = right.lines
    np.testing.assert_allclose(members.get_xdata(), [95, 97])
    np.testing.assert_allclose(interval.get_xdata(), [96 - 12.7062, 96 + 12.7062], rtol=1e-5)  # t of one degree
    np.testing.assert_allclose(middle.get_xdata(), 96)


def test_settings_are_ranked_and_a_member_that_failed_counts_until_it_did(drawn):
    left, right = drawn([line("worse", [0.5, 0.6]), line("failed", [0.4, np.nan]), line("better", [0.6, 0.8])])
    assert [label.get_text() for label in right.get_yticklabels()] == ["better", "worse", "failed"]
    assert len(left.lines) == 3
    assert not left.collections  # one member has no band
    assert left.get_title(loc="left") == "Accuracy"


def test_more_settings_than_there_is_room_for_are_told(drawn):
    many = [line(f"lr={number} $x", [number / 100, number / 100]) for number in range(40)]
    _, right = drawn(many)
    assert right.get_title(loc="left") == "At the end, the best 24 of 40 settings"
    assert right.get_yticklabels()[0].get_text() == "lr=39 $x"


def test_where_all_failed_there_is_still_a_figure(drawn):
    drawn([line("a", [np.nan, np.nan])])
