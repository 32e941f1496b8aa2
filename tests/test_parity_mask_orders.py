"""Dropout masks whose axes shapes leave open."""

from parity.mask_orders import _combinations


def test_too_many_open_masks_are_tried_together():
    choices = [[(0, 1), (1, 0)]] * 7
    assert len(_combinations(choices)) == 2
    assert len(_combinations(choices[:6])) == 64
