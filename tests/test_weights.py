import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.models import CNN, Net
from jaxdl.nn.norm import BatchNorm


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(48, 7), torch.nn.Linear(7, 5)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.fc1, self.fc2 = torch.nn.Linear(64 * 2 * 3, 6), torch.nn.Linear(6, 4)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def split(model):
    _, params, stats = nnx.split(nnx.view(model, deterministic=True), nnx.Param, nnx.BatchStat)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


@pytest.mark.parametrize(
    ("model", "twin", "shape"),
    [
        (Net((4, 4, 3), 5, hidden=7, rngs=nnx.Rngs(0)), TorchNet(), (4, 4, 3)),
        (CNN((8, 12, 3), 4, hidden=6, rngs=nnx.Rngs(0)), TorchCNN(), (8, 12, 3)),
    ],
)
def test_torch_loads_them_and_computes_the_same(model, twin, shape, tmp_path):
    path = tmp_path / "weights.safetensors"
    weights.save(path, model, *split(model))
    twin.load_state_dict(safetensors.torch.load_file(path), strict=True)
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    # Net flattens NHWC here and NCHW there; one channel as in MNIST makes no difference, three do.
    ours = nnx.view(model, deterministic=True)(x)
    theirs = twin(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_there_and_back_is_bitwise(tmp_path):
    model = CNN((8, 8, 1), 4, hidden=6, rngs=nnx.Rngs(0))
    params, stats = split(model)
    weights.save(tmp_path / "w", model, params, stats)
    other = split(CNN((8, 8, 1), 4, hidden=6, rngs=nnx.Rngs(1)))
    loaded, _ = weights.load(tmp_path / "w", model, *other)
    for name, value in tree.flatten(params).items():
        np.testing.assert_array_equal(tree.flatten(loaded)[name], value)


def test_the_same_weights_are_the_same_bytes(tmp_path):
    model = Net((4, 4, 1), 5, hidden=7, rngs=nnx.Rngs(0))
    for name in ("a", "b"):
        weights.save(tmp_path / name, model, *split(model))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_difference_is_named_at_once(tmp_path):
    model = Net((4, 4, 1), 5, hidden=7, rngs=nnx.Rngs(0))
    params, stats = split(model)
    extended = Net((4, 4, 1), 5, hidden=7, rngs=nnx.Rngs(0))
    extended.fc1.scale = nnx.Param(params["fc1"]["bias"])
    other = {"fc1": {**params["fc1"], "scale": params["fc1"]["bias"]}, "fc2": {"bias": params["fc2"]["bias"]}}
    weights.save(tmp_path / "w", extended, other, stats)
    with pytest.raises(ValueError, match=r"fc1.scale is not in the model; fc2.weight is missing$"):
        weights.load(tmp_path / "w", model, params, stats)


def test_other_shapes_are_named_at_once(tmp_path):
    model, wider = (Net((4, 4, 1), 5, hidden=hidden, rngs=nnx.Rngs(0)) for hidden in (7, 8))
    weights.save(tmp_path / "w", model, *split(model))
    expected = (
        r"fc1.bias: expected shape \(8,\), got \(7,\); "
        r"fc1.weight: expected shape \(8, 16\), got \(7, 16\); "
        r"fc2.weight: expected shape \(5, 8\), got \(5, 7\)"
    )
    with pytest.raises(ValueError, match=expected):
        weights.load(tmp_path / "w", wider, *split(wider))


def test_a_damaged_or_missing_file_is_one_line(tmp_path):
    model = Net((4, 4, 1), 5, hidden=7, rngs=nnx.Rngs(0))
    path = tmp_path / "w"
    with pytest.raises(FileNotFoundError, match="no weights at"):
        weights.load(path, model, *split(model))
    weights.save(path, model, *split(model))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        weights.load(path, model, *split(model))


def test_values_of_another_type_are_an_error(tmp_path):
    model = Net((4, 4, 1), 5, hidden=7, rngs=nnx.Rngs(0))
    params, stats = split(model)
    weights.save(tmp_path / "w", model, jax.tree.map(lambda x: np.asarray(x, np.float16), params), stats)
    with pytest.raises(ValueError, match=r"fc1\.bias: expected float32, got float16"):
        weights.load(tmp_path / "w", model, params, stats)


def test_counters_are_as_wide_as_torchs_in_the_file_and_as_the_models_when_read(tmp_path):
    class Normed(nnx.Module):
        def __init__(self):
            self.bn = BatchNorm(3)

    path, model = tmp_path / "w", Normed()
    params, stats = map(nnx.to_pure_dict, nnx.split(model, nnx.Param, nnx.BatchStat)[1:])
    stats["bn"]["num_batches_tracked"] += 7
    weights.save(path, model, params, stats)
    twin = torch.nn.ModuleDict({"bn": torch.nn.BatchNorm1d(3)})
    found = safetensors.torch.load_file(path)
    assert {name: value.dtype for name, value in found.items()} == {
        name: value.dtype for name, value in twin.state_dict().items()
    }
    _, loaded = weights.load(path, model, params, stats)
    assert loaded["bn"]["num_batches_tracked"].dtype == np.int32
    assert loaded["bn"]["num_batches_tracked"] == 7


def test_a_state_dict_is_what_is_written_and_can_be_traced(tmp_path):
    model = CNN((8, 8, 1), 4, hidden=6, rngs=nnx.Rngs(0))
    params = tree.flatten(split(model)[0])
    theirs = jax.jit(lambda values: weights.to_torch(model, values))(params)
    weights.save(tmp_path / "w", model, *split(model))
    for name, value in safetensors.torch.load_file(tmp_path / "w").items():
        np.testing.assert_array_equal(theirs[name], value)
    back = jax.jit(lambda values: weights.from_torch(model, values))(theirs)
    for name, value in params.items():
        np.testing.assert_array_equal(back[name], value)


def test_a_state_dict_of_other_shapes_is_an_error():
    model = CNN((8, 8, 1), 4, hidden=6, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"fc1.bias: expected shape \(6,\), got \(7,\)"):
        weights.from_torch(model, {"fc1.bias": np.zeros(7)})
    with pytest.raises(ValueError, match=r"expected shape \(6, 256\), got \(6, 12\)"):
        weights.from_torch(model, {"fc1.weight": np.zeros((6, 12))})
