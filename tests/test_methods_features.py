import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.methods.features import with_outputs
from jaxdl.models import CNN, Net
from jaxdl.models.resnet import BasicBlock, ResNet

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 8, 8, 1)), jnp.float32)


def test_outputs_are_those_of_torchs_forward_hooks():
    net = Net((8, 8, 1), 3, hidden=5, rngs=nnx.Rngs(0))
    logits, [hidden, last] = with_outputs(net, ["fc1", "fc2"], IMAGES)
    twin = torch.nn.Sequential(torch.nn.Linear(64, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    for theirs, ours in ((twin[0], net.fc1), (twin[2], net.fc2)):
        theirs.weight.data = torch.tensor(np.asarray(ours.weight[...]))
        theirs.bias.data = torch.tensor(np.asarray(ours.bias[...]))
    seen = []
    twin[0].register_forward_hook(lambda *call: seen.append(call[-1]))
    expected = twin(torch.tensor(np.asarray(IMAGES).reshape(2, -1)))
    np.testing.assert_allclose(hidden, seen[0].detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, expected.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(last, logits)


def shapes(make, layers):
    def run():
        model = nnx.view(make(), deterministic=True, use_running_average=True, raise_if_not_found=False)
        return with_outputs(model, layers, IMAGES)[1]

    return [output.shape for output in jax.eval_shape(run)]


def test_nested_layers_are_named_as_in_the_state_dict():
    def make():
        layers = (1, 1, 1, 1)
        return ResNet((8, 8, 1), 3, block=BasicBlock, layers=layers, width=4, stem="cifar", rngs=nnx.Rngs(0))

    assert shapes(make, ["layer2.0", "layer1.0.conv1"]) == [(2, 4, 4, 8), (2, 8, 8, 4)]


def test_of_a_layer_that_is_called_again_the_last_output_counts():
    assert shapes(lambda: CNN((8, 8, 1), 3, hidden=6, rngs=nnx.Rngs(0)), ["dropout"]) == [(2, 6)]


def test_the_model_is_left_as_it_was():
    net = Net((8, 8, 1), 3, rngs=nnx.Rngs(0))
    before = nnx.split(net)
    with_outputs(net, ["fc1"], IMAGES)
    after = nnx.split(net)
    assert before[0] == after[0]
    assert jax.tree.structure(before[1]) == jax.tree.structure(after[1])


def test_a_layer_that_is_not_there_is_an_error_with_those_that_are():
    net = Net((8, 8, 1), 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"no layer fc3; did you mean fc\d\?; it has dropout, fc1, fc2"):
        with_outputs(net, ["fc3"], IMAGES)
