"""Members that are trained together against the runs of ``jaxdl.train`` that each would be alone."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxdl import build, tree
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources, subset
from jaxdl.engine import parallel
from jaxdl.engine.loop import fit
from jaxdl.sweep.groups import groups
from jaxdl.sweep.members import Members, check, diverged

# Without a ragged batch there is a program less.
BASE = {"dataset": "digits", "batch_size": 40, "epochs": 2, "hidden": 16}
# Rounding moves parameters by some 1e-7 of the largest; another rate, mask or batch by 1e-3 and more.
NOISE = 2e-6


@pytest.fixture(scope="module")
def source():
    digits = subset.labelled(sources.load("digits"), 200, 0)
    return dataclasses.replace(digits, test=subset.take(digits.test, np.arange(70)))


def alone(config, source):
    job = build.job(config, source)
    train = parallel.train_chunk(job.train_step, job.loader.take, job.mesh)
    arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)
    chunks = job.loader.chunks(0, job.steps, job.chunk_steps)
    state = fit(job.state, lambda state, items: train(state, arrays, items), chunks, [])
    return jax.device_get((state.params, state.stats))


def furthest(found, expected):
    found, expected = tree.flatten(found), tree.flatten(expected)
    return max(np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max() for name in expected)


def compare(settings, source, way=None, capacity=None):
    """How far each member is from the same trained alone, in units of the largest parameter of a layer."""
    configs = [replace(TrainConfig(), BASE | {"epochs": 1} | setting) for setting in settings]
    (group,) = groups(configs, {name for setting in settings for name in setting})
    together = Members(group, source, way=way, capacity=capacity)
    states = together.train(group, lambda _: ())
    weights = [together.weights(states, place) for place in range(len(configs))]
    apart = furthest(weights[0], weights[1])
    assert apart > 1e-3, "the members are to differ"
    return [furthest(found, alone(config, source)) for found, config in zip(weights, configs, strict=True)]


def test_seeds_are_their_solo_runs_bit_for_bit(source):
    assert compare([{"seed": 0}, {"seed": 7}], source) == [0, 0]


def test_all_at_once_they_are_so_within_rounding(source):
    assert max(compare([{"seed": 0, "lr": 0.1}, {"seed": 1, "lr": 0.2}], source, way="vmap")) < NOISE


@pytest.mark.parametrize(
    "settings",
    [
        [
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": True, "schedule": "one_cycle"},
            {"lr": 0.3, "momentum": 0.5, "weight_decay": 1e-2, "nesterov": True, "schedule": "one_cycle"},
        ],
        [
            {"lr": 0.2, "label_smoothing": 0.0, "dropout": 0.0, "l1": 1e-3, "l2": 0.0},
            {"lr": 0.2, "label_smoothing": 0.2, "dropout": 0.4, "l1": 0.0, "l2": 1e-2},
        ],
        [
            {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.3, "augment": "rotate:5,flip:0"},
            {"optimizer": "adamw", "lr": 0.02, "weight_decay": 0.0, "augment": "rotate:25,flip"},
        ],
    ],
)
def test_members_with_numbers_of_their_own_are_their_solo_runs(source, settings):
    assert max(compare(settings, source, capacity=4)) < NOISE


def test_one_program_trains_group_after_group(source):
    """Records, who is told to stop, who has no number as loss, and a smaller group that comes later."""
    rates = (0.1, 0.2, 0.3, 1e30)
    configs = [replace(TrainConfig(), BASE | {"lr": lr}) for lr in rates]
    (first,) = groups(configs, {"lr"})
    (second,) = groups(configs[2:3], {"lr"})
    epochs, shown = [], []

    def report(records):
        epochs.append(records)
        return {1}

    together = Members(first, source, capacity=8)
    states = together.train(first, report, lambda *progress: shown.append(progress))
    assert [sorted(records) for records in epochs] == [[0, 1, 2, 3], [0, 2]]
    assert [place for place, record in epochs[0].items() if diverged(record)] == [3]
    assert [step for step, *_ in shown] == [5, 10]
    # Each member's test accuracy is that of its weights.
    weights = together.weights(states, 2)
    plain = dataclasses.replace(together.job.state, params=weights[0], stats=weights[1])
    parts = parallel.evaluator(together.job.eval_step, together.job.tests, together.job.mesh)(plain)
    right = sum(float(np.sum(part["accuracy"][0])) for part in parts)
    assert epochs[-1][2] | {"step": 10, "epoch": 2.0, "accuracy": right / 70} == epochs[-1][2]
    again = together.weights(together.train(second, lambda _: ()), 0)
    assert furthest(again, weights) == 0


def test_on_a_device_with_room_the_way_is_measured(source, monkeypatch):
    configs = [replace(TrainConfig(), BASE | {"seed": seed}) for seed in (0, 1)]
    (group,) = groups(configs, set())
    together = Members(group, source)
    assert together.way == "map"
    together.mesh = parallel.make_mesh(jax.devices()[:1])
    together.rows = np.arange(2)

    class Gpu:
        platform = "gpu"

    class Mesh:
        devices = np.array([Gpu()])
        size = 1

    trials = {"map": 2.0, "vmap": 1.0}
    monkeypatch.setattr(together, "mesh", Mesh())
    monkeypatch.setattr(together, "_trial", lambda way, _: way)
    monkeypatch.setattr("jaxdl.methods.sweep.fastest", lambda candidates: {way: trials[way] for way in candidates})
    assert together.choose(group) == ("vmap", "20 steps took: map 2.00 s, vmap 1.00 s")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "the rate must be 0 or more, got -1.0"),
        ({"momentum": -0.5}, "momentum must be 0 or more"),
        ({"dropout": 1.5}, "expected a dropout rate from 0 to 1, got 1.5"),
        ({"dropout": 1.0}, "--dropout must be below 1"),
        ({"label_smoothing": 2.0}, r"label_smoothing must be in \[0, 1\], got 2.0"),
        ({"augment": "rotate:200"}, "degrees between 0 and 180"),
        ({"hidden": 0}, "--hidden must be at least 1; got 0"),
        ({"batch_size": 10**6}, "--batch-size must lie between 1 and the 200"),
        ({"optimizer": "adam", "momentum": 0.9}, "--momentum has no meaning for adam"),
    ],
)
def test_numbers_that_a_program_cannot_check_are_checked_before(source, options, message):
    with pytest.raises(ValueError, match=message):
        check(replace(TrainConfig(), BASE | options), source)
