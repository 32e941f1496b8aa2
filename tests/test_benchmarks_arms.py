"""The arms do the same work, and none can leave any of it out."""

import dataclasses
import types
from collections import Counter

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import prepare, products
from benchmarks.arms import (
    jax_parts,
    jax_scan,
    jax_step,
    jaxdl_command,
    torch_dataloader,
    torch_graph,
    torch_graphs,
    torch_parts,
)
from benchmarks.products import Product
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import EVAL_BATCH, PHASES, PROBE, WEIGHTS, records
from jaxdl.data.loader import EVAL_BATCH as OURS

ARMS = {"scan": jax_scan.Scan, "step": jax_step.Step, "eager": torch_parts.Torch}
EXAMPLES, TESTS = 150, 20  # of Net: two full batches and a ragged one


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Programs of tests stay out of the user's cache."""
    monkeypatch.setattr(jax_parts, "set_up", lambda: None)


def small(name, examples, tests):
    return prepare.synthetic(dataclasses.replace(WORKLOADS[name], examples=(examples, tests)))


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """A prepared folder of Net."""
    folder = tmp_path_factory.mktemp("net")
    prepare.write(WORKLOADS["net"], small("net", EXAMPLES, TESTS), folder)
    return folder


def alter(arm, rows):
    """Makes training images of some rows, and the last test image, white."""
    if isinstance(arm, torch_parts.Torch):
        arm.images[rows], arm.test_images[-1] = 1.0, 1.0
    else:
        arm.arrays["image"] = arm.arrays["image"].at[rows].set(255)
        arm.tests["image"] = arm.tests["image"].at[-1].set(255)


def checks(arm, phase):
    """What a first pass comes to."""
    arm.reset(phase)
    produced = getattr(arm, phase)()
    arm.wait()
    return arm.checks(phase, produced)


@pytest.mark.parametrize("name", ARMS)
def test_a_pass_takes_every_batch_and_its_check_shows_it(name, net):
    """Other images in the last full batch, in the ragged one and at the end of the test set give other checks."""
    arm, eager = ARMS[name]("net", net), torch_parts.Torch("net", net)
    before = {phase: checks(arm, phase) for phase in PHASES}
    for phase in PHASES:
        assert before[phase] == pytest.approx(checks(eager, phase), rel=1e-5), phase
    order = eager.orders[0].numpy()
    alter(arm, order[[127, -1]])
    for phase in PHASES:
        assert checks(arm, phase) != pytest.approx(before[phase], rel=2e-5), phase


@pytest.mark.parametrize("name", ARMS)
def test_a_phase_starts_anew_and_counts_its_batches(name, net):
    arm = ARMS[name]("net", net)
    before = checks(arm, "step")
    assert arm.run("step", 2)["steps"] == 4
    assert [arm.steps(phase) for phase in PHASES] == [2, 2, 2, 3, 1]
    found = arm.warm("step")
    assert found["checks"] == before
    assert found["first"] > 0
    assert arm.offers() == PHASES


def test_a_dataloader_gives_the_same_batches(net):
    loader, eager = torch_dataloader.Loaded("net", net), torch_parts.Torch("net", net)
    for phase in loader.offers():
        assert checks(loader, phase) == checks(eager, phase), phase
    images, labels = next(loader.batches(loader.orders[1]))
    expected, _ = next(eager.batches(loader.orders[1]))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, loader.labels[loader.orders[1][: len(labels)]])


def test_convolutions_with_momentum_agree(tmp_path):
    prepare.write(WORKLOADS["cnn"], small("cnn", 256, TESTS), tmp_path)
    arms = [make("cnn", tmp_path) for make in (jax_scan.Scan, torch_parts.Torch)]
    assert arms[1].images.is_contiguous(memory_format=torch.channels_last)
    scan, eager = (checks(arm, "step") for arm in arms)
    assert scan == pytest.approx(eager, rel=1e-4)


def test_the_parameters_of_phases_without_training_are_not_nought(net):
    start, probe = (safetensors.numpy.load_file(net / name) for name in (WEIGHTS, PROBE))
    for name, array in start.items():
        np.testing.assert_array_equal(array, probe[name])  # Net has no zeros to begin with
    awake = prepare.awakened({"head": np.zeros((3, 2), np.float32), "count": np.zeros((), np.int32)} | start)
    assert awake["head"].all()
    assert awake["count"] == 0
    np.testing.assert_array_equal(awake["fc1.weight"], start["fc1.weight"])


def test_evaluation_batches_are_those_of_the_library():
    assert EVAL_BATCH == OURS


@pytest.mark.parametrize(("steps", "last"), [(7, 7), (100, 100), (101, 1), (938, 38)])
def test_records_are_the_first_hundred_steps_and_what_follows_the_last_full_hundred(steps, last):
    first, end = records(steps)
    assert len(range(steps)[first]) == min(steps, 100)
    assert len(range(steps)[end]) == last


def test_the_command_is_timed_from_its_first_evaluation_to_its_last():
    """Three epochs of 150 steps: evaluations take 1, 2 and 3 s, and epochs two and three 10 s each without."""
    lines = ["Epoch [1/3], Step [100/150], Loss: 1", "Epoch [1/3], Step [150/150], Loss: 1"]
    lines += ["Epoch [1/3], Test loss: 1.0, Test accuracy: 1.00%", "Epoch [2/3], Step [100/150], Loss: 1"]
    lines += ["Epoch [2/3], Step [150/150], Loss: 1", "Epoch [2/3], Test loss: 1.0, Test accuracy: 1.00%"]
    lines += ["Epoch [3/3], Step [150/150], Loss: 1", "Epoch [3/3], Test loss: 1.0, Test accuracy: 1.00%", "end"]
    seconds = [5.0, 7.0, 8.0, 14.0, 18.0, 20.0, 30.0, 33.0, 50.0]
    found = jaxdl_command.window(list(zip(seconds, lines, strict=True)))
    assert found == {"steps": 300, "seconds": 25.0, "evaluation": 5.0, "first": 8.0}


@pytest.mark.parametrize(("steps", "lengths"), [(937, (78, 1)), (468, (78, 1)), (16, (16, 1))])
def test_graphs_of_many_steps_leave_few_over(steps, lengths, monkeypatch):
    graphs = object.__new__(torch_graphs.Graphs)
    monkeypatch.setattr(graphs, "steps", lambda _: steps, raising=False)
    assert graphs.lengths() == lengths


class Replayed(torch_graphs.Graphs):
    """Its graphs do on the CPU what a captured one does: steps on the rows in a fixed place."""

    def _warm_up(self):
        pass

    def _captured(self, length):  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, losses = torch.zeros((length, 64), dtype=torch.int64), torch.zeros(length)

        def replay():
            for place, row in enumerate(rows):
                losses[place] = self.update(*self.batch(row))

        return types.SimpleNamespace(replay=replay), rows, losses


@pytest.mark.parametrize("lengths", [(1,), (2, 1), (3, 1)])
def test_graphs_take_every_batch_in_its_order(lengths, net, monkeypatch):
    monkeypatch.setattr(torch_graph, "sys", types.SimpleNamespace(exit=lambda _: None))  # "no CUDA device"
    monkeypatch.setattr(Replayed, "lengths", lambda _: lengths)
    arm, eager = Replayed("net", net), torch_parts.Torch("net", net)
    for phase in arm.offers():
        assert checks(arm, phase) == checks(eager, phase), phase
        for name, value in eager.net.state_dict().items():
            np.testing.assert_array_equal(arm.net.state_dict()[name], value)


def test_products_of_two_linear_layers():
    """Batch 2, widths 4, 3 and 5; the input needs no gradient."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 5))
    forward = Counter([Product(1, 2, 4, 3), Product(1, 2, 3, 5)])
    assert products.count(lambda: net(torch.ones(2, 4))) == forward
    backward = Counter([Product(1, 5, 2, 3), Product(1, 2, 5, 3), Product(1, 3, 2, 4)])
    assert products.count(lambda: net(torch.ones(2, 4)).sum().backward()) == forward + backward
    assert Product(2, 3, 4, 5).flops == 240


def test_products_have_the_operations_that_torch_counts():
    attention = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    convolution = torch.nn.Sequential(
        torch.nn.Conv2d(4, 6, 3, stride=2), torch.nn.Conv2d(6, 4, (1, 3), padding=1, bias=False)
    )

    def run():
        attention(torch.ones(2, 5, 8)).sum().backward()
        convolution(torch.ones(2, 4, 9, 8)).sum().backward()

    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        run()
    found = products.count(run)
    assert sum(product.flops * number for product, number in found.items()) == counter.get_total_flops()


def test_products_of_a_grouped_convolution():
    """Two images with 4 x 3 places, two groups of 2 channels times 3 x 3 into 3."""
    convolution = torch.nn.Conv2d(4, 6, 3, groups=2, stride=2)
    forward, weight = Product(2, 24, 18, 3), Product(2, 18, 24, 3)
    found = products.count(lambda: convolution(torch.ones(2, 4, 9, 8)).sum().backward())
    assert found == Counter([forward, weight])


def test_a_gpu_gets_all_the_images_that_a_cpu_would_take_minutes_for():
    assert [WORKLOADS["vit"].counts(platform) for platform in ("cpu", "gpu")] == [(1024, 500), (50_000, 10_000)]
    assert WORKLOADS["net"].counts("cpu") == (60_000, 10_000)
