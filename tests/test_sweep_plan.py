"""The members that options ask for."""

import pytest

from jaxdl.config import replace
from jaxdl.sweep.plan import SweepConfig, planned


def test_every_setting_has_every_seed():
    over = ("lr=0.1,0.2", "hidden=8,16"), ("nesterov=true,false",)
    config = replace(SweepConfig(), {"seeds": 3, "over": over})
    plan = planned(config)
    assert len(plan) == 24
    assert plan[-1].setting == {"lr": 0.2, "hidden": 16, "nesterov": False}
    assert [member.config.run.seed for member in plan[:4]] == [0, 1, 2, 0]
    assert [member.number for member in plan] == list(range(24))


def test_a_member_that_has_no_number_as_loss_has_failed():
    (member, *_) = planned(replace(SweepConfig(), {"seeds": 2}))
    for loss, train_loss, failed in [(0.1, 0.1, False), (float("nan"), 0.1, True), (0.1, float("inf"), True)]:
        member.records.append({"loss": loss, "train_loss": train_loss})
        assert member.failed == failed


def test_one_member_is_no_sweep():
    with pytest.raises(ValueError, match="expected several members"):
        planned(replace(SweepConfig(), {"over": (("lr=0.1",),)}))
