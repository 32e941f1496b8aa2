"""Training both sides on real MNIST: in lockstep in float64, inside torch's envelope in float32."""

import dataclasses

import numpy as np
import pytest

from jaxdl.optim import optimizers
from parity.lockstep import Lockstep, Run, lockstep
from parity.twins import net


def test_a_correct_port_stays_in_lockstep_and_another_learning_rate_does_not(mnist_dir):
    exact, narrow = lockstep(net.sgd(), mnist_dir, epochs=1, examples=320)
    assert exact.inside
    assert narrow.inside
    assert exact.deviation.shape == (5,)
    assert exact.deviation.max() < 1e-13
    assert exact.port.accuracy == exact.truth.accuracy
    wrong = dataclasses.replace(net.sgd(), tx=optimizers.sgd(0.0101))
    assert not next(lockstep(wrong, mnist_dir, epochs=1, examples=320)).inside


def run(losses, parameters):
    return Run(np.asarray(losses, float), (np.asarray(parameters, float),), 0.5)


def test_the_envelope_is_the_largest_error_of_torchs_runs():
    truth, near, far = run([1.0, 0.5], [1.0]), run([1.0, 0.5], [1.0 + 1e-7]), run([1.0, 0.5], [1.0 + 2e-7])
    found = Lockstep("float32", truth, (near, far), run([1.0, 0.505], [1.0 + 4e-7]))
    np.testing.assert_allclose(found.ratios, [2.0], rtol=1e-6)
    np.testing.assert_allclose(found.deviation, [0, 0.01])
    assert found.inside
    assert "largest relative deviation of the loss 1.0e-02" in found.text()
    assert not dataclasses.replace(found, port=run([1.0, 0.5], [1.0 + 2e-6])).inside


def test_a_pair_that_does_not_train_is_refused(mnist_dir):
    with pytest.raises(ValueError, match="needs a pair with loss, torch_optimizer and tx"):
        next(lockstep(dataclasses.replace(net.sgd(), tx=None), mnist_dir, epochs=1, examples=64))
