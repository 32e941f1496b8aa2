"""Strict mode for every test: four virtual devices, no implicit dtype or rank promotion, draws that repeat."""

import os
from pathlib import Path

# The tests compile more than they compute: without LLVM's optimization they take a quarter less time.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest
import torch
from hypothesis import settings

from jaxdl.engine import timing

timing.SECONDS = 0.0  # as few calls as there may be
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# A run of the tests finds what the one before found, however slow the machine is.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


@pytest.fixture(autouse=True)
def _seeded():
    """What torch draws in a test does not depend on the tests before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four original MNIST files, where this machine has them."""
    if not MNIST.is_dir():
        pytest.skip("the original MNIST files are not on this machine")
    return MNIST


@pytest.fixture
def x64():
    """float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def mistake(capsys):
    """Calls a command's ``main`` with a mistake, which must end it with status 2 and one line on stderr."""

    def said(main, argv):
        try:
            status = main(argv)
        except SystemExit as stop:
            status = stop.code
        output = capsys.readouterr()
        assert status == 2
        assert output.err.count("\n") == 1, output.err
        return output

    return said


@pytest.fixture
def prove_gradients():
    """Proves outputs and all gradients of a model, from its torch class, a maker of the port and images."""
    from parity import Pair, channels_last
    from parity.prove import prove
    from parity.verdict import Verdict

    def check(torch_class, port, images) -> None:
        judgement = prove(
            Pair(
                torch=torch_class,
                flax=port,
                inputs=lambda _: images.transpose(0, 3, 1, 2),
                flax_inputs=channels_last,
            )
        )
        assert judgement.verdict is Verdict.PASS
        passed = {phase.name for phase in judgement.phases if phase.verdict is Verdict.PASS}
        assert passed == {"eval_forward", "train_forward", "input_gradients", "parameter_gradients"}
        assert max(leaf.error for phase in judgement.phases for leaf in phase.leaves) < 1e-13

    return check
