"""Weights as a safetensors file under torch's names and in torch's layouts."""

from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from jaxdl import files, tree
from jaxdl.typing import Array, PyTree


def save(path: Path, model: nnx.Module, params: PyTree, stats: PyTree) -> None:
    """Writes what ``torch_module.load_state_dict(safetensors.torch.load_file(path))`` takes, atomically.

    Args:
      path: the file.
      model: gives the layout of each parameter; its values are not used.
      params, stats: the values, as in `TrainState`.
    """
    layouts = _layouts(model)
    arrays = {
        name: layouts[name].to_torch(np.asarray(value)) if layouts[name] else np.asarray(value, order="C")
        for name, value in (tree.flatten(params) | tree.flatten(stats)).items()
    }
    arrays = {name: array.astype(np.int64) if array.dtype.kind == "i" else array for name, array in arrays.items()}
    files.write_atomic(path, lambda temporary: safetensors.numpy.save_file(arrays, temporary, {"format": "pt"}))


def load(path: Path, model: nnx.Module, params: PyTree, stats: PyTree) -> tuple[PyTree, PyTree]:
    """The inverse of `save`: params and stats of the given structure, with the file's values.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged, or its names, shapes or types are not the model's (all differences at once).
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: the run has not ended yet, or this is no run")
    try:
        arrays = safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error})") from error
    wanted, layouts = tree.flatten(params) | tree.flatten(stats), _layouts(model)
    problems = [f"{name} is missing" for name in wanted if name not in arrays]
    problems += [f"{name} is not in the model" for name in arrays if name not in wanted]
    values = {}
    for name in wanted.keys() & arrays.keys():
        try:
            values[name] = _convert(arrays[name], wanted[name], layouts[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError(f"{path} does not fit the model: {'; '.join(sorted(problems))}")
    return tuple(tree.map_named(lambda name, _: values[name], part) for part in (params, stats))


def _convert(array: np.ndarray, like: Array, layout) -> np.ndarray:
    counters = np.issubdtype(array.dtype, np.integer) and np.issubdtype(like.dtype, np.integer)
    if array.dtype != like.dtype and not counters:
        raise ValueError(f"expected {like.dtype}, got {array.dtype}")
    if layout:
        return layout.from_torch(array, like.shape)
    if array.shape != like.shape:
        raise ValueError(f"expected shape {like.shape}, got {array.shape}")
    return array.astype(like.dtype)


def _layouts(model: nnx.Module) -> dict:
    variables = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    return {".".join(map(str, path)): variable.get_metadata().get("layout") for path, variable in variables}
