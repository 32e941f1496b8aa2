"""Which weights of another model are taken, and what is said of the others."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.methods.finetune import transfer
from jaxdl.models import CNN
from jaxdl.nn.norm import BatchNorm


class TorchCNN(torch.nn.Module):
    """A torch user's network with jaxdl's names."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Conv2d(3, 4, 3, padding=1)
        self.fc1, self.fc2 = torch.nn.Linear(4 * 2 * 2, 5), torch.nn.Linear(5, classes)

    def forward(self, x):
        for conv in (self.conv1, self.conv2):
            x = torch.nn.functional.max_pool2d(torch.relu(conv(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def small(classes=3, channels=(3, 4)):
    return CNN((8, 8, 1), classes, channels=channels, hidden=5, rngs=nnx.Rngs(0))


def values(model):
    return tree.flatten(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))


@pytest.fixture
def checkpoint(tmp_path):
    net = TorchCNN(3)
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net.safetensors")
    return net, tmp_path / "net.safetensors"


def test_a_torch_checkpoint_computes_the_same_here(checkpoint):
    net, path = checkpoint
    mine = small()
    result = transfer.transfer(mine, transfer.read(path), new={})
    assert (len(result.taken), result.new, result.skipped) == (8, {}, ())
    image = np.random.default_rng(0).normal(size=(5, 8, 8, 1)).astype(np.float32)
    theirs = net(torch.tensor(image).permute(0, 3, 1, 2)).detach()
    np.testing.assert_allclose(nnx.view(mine, deterministic=True)(image), theirs, rtol=2e-5, atol=1e-6)


def test_every_leaf_is_told_as_taken_new_or_skipped(checkpoint):
    _, path = checkpoint
    mine, arrays = small(classes=7), transfer.read(path)
    before = values(mine)
    head = {"fc2.weight": "other classes", "fc2.bias": "other classes"}
    result = transfer.transfer(mine, {**arrays, "extra": np.ones(2)}, take="conv.*|fc2.*", new=head)
    assert set(result.taken) == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"}
    assert result.new == {"fc1.weight": "not asked for", "fc1.bias": "not asked for", **head}
    assert set(result.skipped) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "extra"}
    after = values(mine)
    for name in result.new:
        assert np.asarray(after[name]).tobytes() == np.asarray(before[name]).tobytes()
    np.testing.assert_array_equal(after["conv1.weight"].transpose(3, 2, 0, 1), arrays["conv1.weight"])


def test_statistics_come_along():
    theirs, mine = torch.nn.BatchNorm2d(3), BatchNorm(3)
    theirs(torch.arange(24.0).reshape(2, 3, 2, 2))
    arrays = {name: value.numpy() for name, value in theirs.state_dict().items()}
    result = transfer.transfer(mine, arrays, new={})
    assert (set(result.taken), result.new) == (set(arrays), {})
    for name, value in values(mine).items():
        np.testing.assert_array_equal(value, arrays[name])
    assert int(values(mine)["num_batches_tracked"]) == 1


def test_other_floating_point_types_become_the_models(checkpoint):
    _, path = checkpoint
    arrays = transfer.read(path)
    for dtype in (np.float64, np.float16, jnp.bfloat16):
        mine = small()
        transfer.transfer(mine, {name: array.astype(dtype) for name, array in arrays.items()}, new={})
        assert values(mine)["fc1.bias"].dtype == np.float32
        np.testing.assert_allclose(values(mine)["fc1.bias"], arrays["fc1.bias"], rtol=1e-2)


def test_names_can_be_changed(checkpoint):
    _, path = checkpoint
    arrays = {f"module.{name.replace('fc', 'head.')}": array for name, array in transfer.read(path).items()}
    renamed = transfer.rename(arrays, [r"^module\.=", r"head\.(\d)=fc\1"])
    assert set(renamed) == set(values(small()))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["fc1"], "--rename expects PATTERN=REPLACEMENT, got 'fc1' "),
        (["(=x"], r"--rename expects PATTERN=REPLACEMENT, got '\(=x' \(missing \)"),
        ([r"fc=\1"], "--rename expects PATTERN=REPLACEMENT, got 'fc="),
        (["fc.=fc"], "--rename gives two parameters the name fc.weight"),
    ],
)
def test_a_wrong_rule_is_an_error(rules, message):
    with pytest.raises(ValueError, match=message):
        transfer.rename({"fc1.weight": np.ones(1), "fc2.weight": np.ones(1)}, rules)


def test_shapes_that_differ_are_told_together(checkpoint):
    _, path = checkpoint
    with pytest.raises(ValueError, match=r"conv1\.bias: expected shape \(6,\), got \(3,\).*conv2\.weight.*--new"):
        transfer.transfer(small(channels=(6, 4)), transfer.read(path), new={})


def test_a_failed_transfer_changes_nothing(checkpoint):
    _, path = checkpoint
    mine = small(channels=(6, 4))
    before = values(mine)
    with pytest.raises(ValueError, match="does not fit"):
        transfer.transfer(mine, transfer.read(path), new={})
    assert all(np.array_equal(values(mine)[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: np.full_like(a, np.nan), "fc1.bias: holds values that are not finite"),
        (lambda a: a.astype(np.int32), "fc1.bias: expected float32, got int32"),
    ],
)
def test_values_that_are_no_weights_are_an_error(checkpoint, change, message):
    arrays = transfer.read(checkpoint[1])
    with pytest.raises(ValueError, match=message):
        transfer.transfer(small(), {**arrays, "fc1.bias": change(arrays["fc1.bias"])}, new={})


def test_no_leaf_that_matches_is_an_error(checkpoint):
    arrays = transfer.read(checkpoint[1])
    with pytest.raises(
        ValueError, match=r"nothing to take matches 'encoder.*': the source has .* and 2 more, the"
    ):
        transfer.transfer(small(), arrays, take="encoder.*", new={})
    other = {f"module.{name}": array for name, array in arrays.items()}
    with pytest.raises(ValueError, match=r"the source has module\.conv1\.bias.*--rename"):
        transfer.transfer(small(), other, new={})


def test_what_is_no_source_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nothing"):
        transfer.read(tmp_path / "nothing.safetensors")
    with pytest.raises(FileNotFoundError, match="the run has not ended yet"):
        transfer.read(tmp_path)
    (tmp_path / "net.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"got .*net.pt; torch writes one with safetensors.torch.save_file"):
        transfer.read(tmp_path / "net.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"1234567890")
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        transfer.read(tmp_path / "cut.safetensors")
