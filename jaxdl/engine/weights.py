"""Weights as a safetensors file under torch's names and in torch's layouts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from jaxdl import files, tree
from jaxdl.engine import packed
from jaxdl.nn.layout import Layout
from jaxdl.typing import Array, PyTree


def save(path: Path, model: nnx.Module, params: PyTree, stats: PyTree) -> None:
    """Writes what ``torch_module.load_state_dict(safetensors.torch.load_file(path))`` takes, atomically.

    Args:
      path: the file.
      model: gives the layout of each parameter; its values are not used.
      params, stats: the values, as in `TrainState`.
    """
    values = tree.flatten(params) | tree.flatten(stats)
    theirs = to_torch(model, {name: np.asarray(value) for name, value in values.items()})
    arrays = {name: np.asarray(array, order="C") for name, array in theirs.items()}
    # Counters are int64 in torch; codes of int8 stay what they are.
    arrays = {name: array.astype(np.int64) if array.dtype == np.int32 else array for name, array in arrays.items()}
    files.write_atomic(path, lambda temporary: safetensors.numpy.save_file(arrays, temporary, {"format": "pt"}))


def load(path: Path, model: nnx.Module, params: PyTree, stats: PyTree) -> tuple[PyTree, PyTree]:
    """The inverse of `save`: params and stats of the given structure, with the file's values.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or its names, shapes or types are not the model's (all differences at once).
    """
    arrays = read(path)
    wanted, known = tree.flatten(params) | tree.flatten(stats), layouts(model)
    problems = [f"{name} is missing" for name in wanted if name not in arrays]
    problems += [f"{name} is not in the model" for name in arrays if name not in wanted]
    values = {}
    for name in wanted.keys() & arrays.keys():
        try:
            values[name] = _convert(arrays[name], wanted[name], known[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError(f"{path} does not fit the model: {'; '.join(sorted(problems))}")
    return tuple(tree.map_named(lambda name, _: values[name], part) for part in (params, stats))


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, plain or packed, under torch's names and in torch's layouts.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: the run has not ended yet, or this is no run")
    try:
        return packed.load(path)[0] if packed.is_packed(path) else safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error})") from error


def _convert(array: np.ndarray, like: Array, layout: Layout | None) -> np.ndarray:
    counters = np.issubdtype(array.dtype, np.integer) and np.issubdtype(like.dtype, np.integer)
    if array.dtype != like.dtype and not counters:
        raise ValueError(f"expected {like.dtype}, got {array.dtype}")
    if layout:
        return layout.from_torch(array, like.shape)
    if array.shape != like.shape:
        raise ValueError(f"expected shape {like.shape}, got {array.shape}")
    return array.astype(like.dtype)


def to_torch(model: nnx.Module, values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and statistics by name, in torch's layouts: a state_dict.

    In it all layers are alike: outputs along the first axis, inputs along the second.

    Args:
      model: gives the layouts.
      values: arrays of NumPy's or JAX's, traced ones too.
    """
    known = layouts(model)
    found = {}
    for name, value in values.items():
        layout = known[name]
        found[name] = layout.permuted(value) if layout else value
    return found


def from_torch(model: nnx.Module, values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `to_torch`.

    Raises:
      ValueError: an array of another shape than the model has there.
    """
    known, variables = layouts(model), _variables(model)
    found = {}
    for name, value in values.items():
        layout, shape = known[name], variables[name].shape
        if not layout and value.shape != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {value.shape}")
        found[name] = layout.restored(value, shape) if layout else value
    return found


def layouts(model: nnx.Module) -> dict[str, Layout | None]:
    """How each parameter and statistic lies in torch; None: as it lies here."""
    return {name: variable.get_metadata().get("layout") for name, variable in _variables(model).items()}


def _variables(model: nnx.Module) -> dict[str, Any]:
    variables = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): variable for path, variable in variables}
