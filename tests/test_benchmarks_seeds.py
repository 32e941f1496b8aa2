"""Many seeds at once: every way trains the members that are trained alone, and one that does not is void."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from benchmarks import members, prepare, report
from benchmarks.arms import jax_members, torch_members
from benchmarks.arms.torch_parts import Torch
from benchmarks.process import ArmError
from benchmarks.tasks import seeds
from benchmarks.tasks.seeds import Arm
from benchmarks.workloads import WORKLOADS
from jaxdl.data.loader import Loader

MEMBERS, STEPS, EXAMPLES = 4, 3, 200
FACTS = {
    "task": "seeds",
    "platform": "cpu",
    "device": "cpu",
    "data": "MNIST",
    "members": MEMBERS,
    "steps": STEPS,
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "date": "2000-01-01",
    "command": "python -m benchmarks seeds",
}
ALONE = [1.0, 1.1, 1.2, 1.3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prepared data with members."""
    place = tmp_path_factory.mktemp("members")
    workload = dataclasses.replace(WORKLOADS["net"], examples=(EXAMPLES, 20))
    prepare.write(WORKLOADS["net"], prepare.synthetic(workload), place)
    members.write(place, MEMBERS, STEPS)
    return place


@pytest.fixture
def compete(monkeypatch, tmp_path):
    """Races arms that are given by their losses and the seconds of their windows; returns result and page."""

    class Fake:
        def __init__(self, _, way, folder):
            del folder
            self.losses, self.seconds = given[way]

        def ask(self, method, *_):
            if self.losses is None:
                raise ArmError("no CUDA device")
            return (self.losses, 1.0) if method == "warm" else {"steps": 100, "seconds": next(self.seconds)}

        def close(self):
            pass

    given = {}

    def run(**arms):
        for name, (losses, seconds) in arms.items():
            given[name] = losses, iter(seconds * 2)
        arms = {name.replace("_", "-"): Arm("module", name, "as it is") for name in given}
        monkeypatch.setattr(seeds, "ARMS", arms)
        (*_, found) = seeds.race(arms, tmp_path, rounds=4, window=0.0)
        result = json.loads(json.dumps(FACTS | found, allow_nan=False))
        return result, report.page(result)

    monkeypatch.setattr(seeds, "Worker", Fake)
    return run


def row(page, start):
    return next(line for line in page.splitlines() if line.startswith(f"| {start} |"))


def test_members_have_weights_and_orders_of_their_own_seeds(folder):
    starts = [safetensors.numpy.load_file(path) for path in members.starts(folder)]
    rows = np.load(folder / members.ROWS)
    assert rows.shape == (MEMBERS, STEPS, 64)
    for seed in range(MEMBERS):
        order = Loader({"label": np.arange(EXAMPLES)}, 64, seed=seed).order(0)
        np.testing.assert_array_equal(rows[seed].ravel(), order[: STEPS * 64])
    assert not np.array_equal(starts[0]["fc1.weight"], starts[1]["fc1.weight"])
    for name, bound in {"fc1": 1 / np.sqrt(784), "fc2": 1 / np.sqrt(128)}.items():
        largest = max(np.abs(start[f"{name}.weight"]).max() for start in starts)
        assert 0.98 * bound < largest <= bound * 1.000001


def test_members_have_no_more_steps_than_an_epoch_has_full_batches(folder):
    with pytest.raises(ValueError, match="expected at most 3 steps, the full batches of an epoch; got 4"):
        members.write(folder, 1, 4)


def test_every_way_trains_the_members_that_are_trained_alone(folder, monkeypatch):
    monkeypatch.setattr(jax_members, "set_up", lambda: None)
    losses = {way: jax_members.Members(way, folder).warm()[0] for way in jax_members.WAYS}
    for way, make in {"eager": torch_members.OneAfterAnother, "batched": torch_members.Batched}.items():
        losses[way] = make(Torch, folder).warm()[0]
    assert len(set(losses["solo"])) == MEMBERS
    for found in losses.values():
        np.testing.assert_allclose(found, losses["solo"], rtol=1e-5)


def test_losses_that_a_graph_leaves_together_count_one_by_one(folder, monkeypatch):
    arm = torch_members.OneAfterAnother(Torch, folder)
    monkeypatch.setattr(torch_members, "TAIL", 3)
    monkeypatch.setattr(arm.arm, "step", lambda: [(torch.tensor([1.0, 2, 3]), 64), (torch.tensor(4.0), 64)])
    assert arm.member(0).tolist() == [2, 3, 4]


def test_a_window_starts_anew_and_counts_every_step(folder):
    arm = torch_members.Batched(Torch, folder)
    first = arm.train()
    assert arm.run(2)["steps"] == 2 * MEMBERS * STEPS
    np.testing.assert_array_equal(arm.train(), first)


def test_an_arm_whose_members_are_not_those_trained_alone_is_void(compete):
    steady = [1.0, 1.01, 0.99, 1.0]
    result, page = compete(
        jaxdl_solo=(ALONE, steady),
        jaxdl_map=(ALONE, [x / 4 for x in steady]),
        torch_eager=([1.00001, 1.1, 1.2, 1.3], steady),
        torch_vmap=([1.1, 1.0, 1.2, 1.3], [x / 99 for x in steady]),  # two members have changed places
        torch_compile=([float("nan"), 1.1, 1.2, 1.3], steady),
        torch_graph=(None, steady),
    )
    assert "void" in row(page, "torch-vmap")
    assert "void" in row(page, "torch-compile")
    assert "no number" in row(page, "torch-compile")
    assert "skipped: no CUDA device" in row(page, "torch-graph")
    assert row(page, "torch-eager") == "| torch-eager | 100 | 0.5 | 4 | 1.0e-05 | as it is |"
    claims = {claim.what: claim for claim in seeds.claims(result)}
    assert list(claims) == ["4 seeds of Net: jaxdl-map / jaxdl-solo", "4 seeds of Net: jaxdl-map / torch-eager"]
    assert claims["4 seeds of Net: jaxdl-map / torch-eager"].outcome == ">= 3: reached"


def test_a_slow_and_a_noisy_arm_are_reported_as_such(compete):
    steady = [1.0, 1.01, 0.99, 1.0]
    result, page = compete(
        jaxdl_solo=(ALONE, [1, 2, 1, 2]),
        jaxdl_map=(ALONE, [2 * x for x in steady]),
        torch_eager=(ALONE, steady),
    )
    assert "noisy" in row(page, "jaxdl-solo")
    solo, eager = seeds.claims(result)
    assert (solo.verdict, solo.outcome) == ("too noisy to say", "")
    assert (eager.verdict, eager.outcome) == ("behind", ">= 3: missed")


def test_without_members_trained_alone_there_is_nothing_to_compare_with(compete):
    with pytest.raises(ArmError, match="jaxdl-solo: no CUDA device"):
        compete(jaxdl_solo=(None, []), torch_eager=(ALONE, [1.0] * 4))
