"""Time to an accuracy: both arms train the same recipe, and a run that never gets there is shown as such."""

import dataclasses
import json
import math

import jax
import numpy as np
import pytest
import safetensors.torch
import torch

from benchmarks import prepare, report
from benchmarks.arms import jaxdl_target, torch_target
from benchmarks.process import ArmError
from benchmarks.tasks import target
from benchmarks.tasks.target import TARGETS
from benchmarks.workloads import WORKLOADS
from jaxdl.engine import weights
from jaxdl.recipes import RECIPES

EXAMPLES = 300  # two full batches and a ragged one
FACTS = {
    "task": "target",
    "case": "98",
    "recipe": "mlp",
    "platform": "cpu",
    "device": "cpu",
    "data": "MNIST",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "date": "2000-01-01",
    "command": "python -m benchmarks target",
}
SOON = [[1.0, 0.97], [2.0, 0.981]]
LATE = [[2.0, 0.97], [4.0, 0.979], [6.0, 0.98]]
NEVER = [[1.0, 0.97], [2.0, 0.9799]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prepared data."""
    place = tmp_path_factory.mktemp("target")
    workload = dataclasses.replace(WORKLOADS["net"], examples=(EXAMPLES, 40))
    prepare.write(WORKLOADS["net"], prepare.synthetic(workload), place)
    return place


@pytest.fixture(scope="module")
def mlp(folder):
    """The arm of jaxdl."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxdl_target, "set_up", lambda: None)
        return jaxdl_target.Recipe("mlp", folder)


@pytest.fixture
def compete(monkeypatch, tmp_path):
    """Races arms that are given by their curves; returns result and page."""

    class Fake:
        def __init__(self, arm, recipe, _):
            assert recipe == "mlp"
            self.curves = given[arm]

        def ask(self, method, seed=0, accuracy=0.0):
            if not self.curves:
                raise ArmError("out of memory")
            assert method == "warm" or accuracy == 0.98
            return self.curves[seed]

        def close(self):
            pass

    given = {}

    def run(jaxdl, torch_eager):
        given.update({"jaxdl": jaxdl, "torch-eager": torch_eager})
        (*_, found) = target.race(
            {arm: arm for arm in given}, TARGETS["98"], tmp_path, len(jaxdl) or len(torch_eager)
        )
        result = json.loads(json.dumps(FACTS | found, allow_nan=False))
        return result, report.page(result)

    monkeypatch.setattr(target, "Worker", Fake)
    return run


def row(page, start):
    return next(line for line in page.splitlines() if line.startswith(f"| {start} |"))


def test_the_ratio_is_of_the_times_to_the_first_evaluation_at_the_target(compete):
    result, page = compete([SOON] * 3, [LATE] * 3)
    assert row(page, "jaxdl") == "| jaxdl | 2.00 | 0.00 | 3 of 3 | 2 | 1.000 | 98.10% |  |"
    assert row(page, "torch-eager") == "| torch-eager | 6.00 | 0.00 | 3 of 3 | 3 | 2.000 | 98.00% |  |"
    (claim,) = target.claims(result)
    assert (claim.estimate.value, claim.outcome) == (3.0, ">= 2: reached")
    (claim,) = target.claims(compete([SOON] * 2, [LATE] * 2)[0])
    assert claim.verdict == "too noisy to say"  # two seeds have no spread to speak of


def test_a_run_that_never_reaches_the_target_takes_for_ever(compete):
    result, page = compete([SOON, NEVER], [LATE, LATE])
    assert row(page, "jaxdl").startswith("| jaxdl | never |  | 1 of 2 | 2 |")
    assert target.claims(result) == []
    assert list(target.measures(result)) == ["torch-eager"]
    _, page = compete([NEVER, NEVER], [LATE, LATE])
    assert row(page, "jaxdl").startswith("| jaxdl | never |  | 0 of 2 |")
    assert "97.99%" in row(page, "jaxdl")


def test_every_run_is_a_line_in_the_picture(compete, tmp_path):
    result, _ = compete([SOON, NEVER], [LATE, LATE])
    target.plot(result, tmp_path / "curves.png")
    few = (tmp_path / "curves.png").stat().st_size
    target.plot(result | {"curves": {"jaxdl": [SOON]}}, tmp_path / "curves.png")
    assert 1000 < (tmp_path / "curves.png").stat().st_size < few


def test_a_failed_arm_and_uneven_epochs_are_reported(compete):
    _, page = compete([], [LATE, LATE])
    assert "failed: out of memory" in row(page, "jaxdl")
    result, page = compete([SOON, SOON, [[9.0, 0.99]], [[9.0, 0.99]]], [LATE] * 4)
    assert "noisy" in row(page, "jaxdl")
    (claim,) = target.claims(result)
    assert claim.verdict == "too noisy to say"


def test_a_run_ends_at_the_target_or_with_the_recipe(mlp, folder):
    eager = torch_target.Recipe("mlp", folder)
    assert mlp.warm() == eager.warm() == RECIPES["mlp"]["epochs"]
    for arm in (mlp, eager):
        assert len(arm.run(0, 0.0)) == 1
        seconds, accuracies = zip(*arm.run(1, 1.1), strict=True)
        assert len(seconds) == RECIPES["mlp"]["epochs"]
        assert list(seconds) == sorted(seconds)
        assert accuracies[-1] > 0.9


def test_both_arms_train_the_same_recipe(mlp, folder, tmp_path):
    """Two epochs from the same weights through the same batches, and the accuracy behind them."""
    job, eager = mlp.job(0), torch_target.Recipe("mlp", folder)
    path = tmp_path / "weights.safetensors"
    weights.save(path, job.model, jax.device_get(job.state.params), jax.device_get(job.state.stats))
    net, optimizer, schedule = eager.start(0)
    net.load_state_dict(safetensors.torch.load_file(path))
    state = mlp.follow(job, jaxdl_target.Clock(math.inf), 2 * job.loader.steps_per_epoch)
    for epoch in range(2):
        eager.train(net, optimizer, schedule, torch.tensor(job.loader.order(epoch), dtype=torch.int64))
    weights.save(path, job.model, jax.device_get(state.params), jax.device_get(state.stats))
    for name, value in safetensors.torch.load_file(path).items():
        np.testing.assert_allclose(net.state_dict()[name], value, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_trained_in_torch(name, folder):
    arm = torch_target.Recipe(name, folder)
    net, optimizer, _ = arm.start(0)
    rates = {module.p for module in net.modules() if isinstance(module, torch.nn.Dropout)} - {0.0}
    assert rates == {RECIPES[name].get("dropout", 0.0)} - {0.0}
    group = optimizer.param_groups[0]
    assert type(optimizer).__name__.lower() == RECIPES[name]["optimizer"]
    assert group["max_lr"] == RECIPES[name]["lr"]


def test_an_option_that_is_not_translated_is_an_error(folder, monkeypatch):
    monkeypatch.setitem(RECIPES, "new", RECIPES["cnn"] | {"weight_decay": 0.1, "l2": 1.0})
    with pytest.raises(ValueError, match="recipe new has options that are not translated: l2, weight_decay"):
        torch_target.Recipe("new", folder)
    monkeypatch.setitem(RECIPES, "new", RECIPES["cnn"] | {"augment": "rotate:10"})
    with pytest.raises(ValueError, match=r"expected the augmentation crop:N or none, got 'rotate:10'"):
        torch_target.Recipe("new", folder)


def test_images_are_shifted_by_up_to_the_padding_over_black(folder):
    arm = torch_target.Recipe("cnn", folder)
    plain = torch_target.Recipe("mlp", folder).batch(torch.tensor([7]))[0, 0]
    black = -arm.mean / arm.std
    padded = torch.full((32, 32), black)
    padded[2:30, 2:30] = plain
    shifts = {(i, j): padded[i : i + 28, j : j + 28] for i in range(5) for j in range(5)}
    torch.manual_seed(0)
    found = arm.batch(torch.full((500,), 7))[:, 0]
    seen = {where for image in found for where, shift in shifts.items() if torch.allclose(image, shift, atol=1e-6)}
    assert seen == set(shifts)
    assert all(any(torch.allclose(image, shift, atol=1e-6) for shift in shifts.values()) for image in found[:50])
