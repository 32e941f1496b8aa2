"""Weights in few bytes: a safetensors file with zeros left out, int8 codes and low-rank factors.

An array is stored in whichever way takes the fewest bytes: whole; as a bit for each element and the values that
are not 0; or as those values and the number of zeros before each, in bytes of which 255 stands for as many zeros
and no value (Han et al. 2015, "Deep Compression", section 2).
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxdl import files

LONGEST = 255  # zeros that one byte can stand for


@dataclasses.dataclass(frozen=True)
class Codes:
    """An array as ``codes * scale``: int8 of any shape, and float32 of a shape that broadcasts to it."""

    codes: np.ndarray
    scale: np.ndarray


@dataclasses.dataclass(frozen=True)
class Product:
    """A weight as ``left @ right``, (m, r) and (r, n, ...), each as an array or as codes; (m, n, ...)."""

    left: "np.ndarray | Codes"
    right: "np.ndarray | Codes"


Packable = np.ndarray | Codes | Product


def save(path: Path, arrays: Mapping[str, Packable], about: Mapping[str, Any]) -> int:
    """Writes arrays by name, atomically, and returns the bytes on the disk.

    Args:
      path: the file.
      arrays: what `load` gives back; codes and products multiplied out.
      about: JSON values to keep with them.
    """
    parts: dict[str, np.ndarray] = {}
    kinds = {name: _pack(name, value, parts) for name, value in arrays.items()}
    note = json.dumps({"kinds": kinds, "about": dict(about)}, separators=(",", ":"))
    header = {"packed": note, "checksum": _checksum(parts, note)}
    files.write_atomic(path, lambda temporary: safetensors.numpy.save_file(parts, temporary, header))
    return path.stat().st_size


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `save` wrote: arrays by name, and what was said about them.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not one that `save` wrote, or it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no packed weights at {path}")
    try:
        if not is_packed(path):
            raise ValueError(f"{path} has plain weights; expected packed ones")
        with safetensors.safe_open(path, "numpy") as file:
            header = file.metadata()
            parts = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error})") from error
    if (found := _checksum(parts, header["packed"])) != header["checksum"]:
        raise ValueError(f"{path} is damaged: its checksum is {found}, expected {header['checksum']}")
    note = json.loads(header["packed"])
    return {name: _unpack(name, kind, parts) for name, kind in note["kinds"].items()}, note["about"]


def is_packed(path: Path) -> bool:
    """Whether a safetensors file is one that `save` wrote.

    Raises:
      safetensors.SafetensorError: it is no safetensors file.
    """
    with safetensors.safe_open(path, "numpy") as file:
        return {"packed", "checksum"} <= (file.metadata() or {}).keys()


def size(elements: int, others: int, width: int) -> int:
    """Bytes that are enough for an array, whatever the places of its zeros.

    Args:
      elements: how many there are.
      others: how many of them are not 0.
      width: bytes of a value.
    """
    bits, gaps = -(-elements // 8), others + elements // LONGEST
    return min(elements * width, min(bits, gaps) + others * width)


def _pack(name: str, value: Packable, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """Adds the parts of an array to ``parts`` and returns what `_unpack` has to know beside them."""
    if isinstance(value, Product):
        return {"product": [_pack(f"{name}.{side}", getattr(value, side), parts) for side in ("left", "right")]}
    if isinstance(value, Codes):
        parts[f"{name}.scale"] = value.scale
        value = value.codes
    flat = value.ravel()
    places = np.flatnonzero(flat)
    bits, gaps = np.packbits(flat != 0), _gaps(places)
    way, where = ("bits", bits) if bits.size <= gaps.size else ("gaps", gaps)
    if where.size + places.size * flat.itemsize >= flat.nbytes:
        parts[name] = np.asarray(value, order="C")
        return {}
    parts[f"{name}.{way}"], parts[f"{name}.values"] = where, flat[places]
    return {"shape": value.shape}


def _unpack(name: str, kind: Mapping[str, Any], parts: Mapping[str, np.ndarray]) -> np.ndarray:
    if "product" in kind:
        sides = zip(("left", "right"), kind["product"], strict=True)
        left, right = (_unpack(f"{name}.{side}", inner, parts) for side, inner in sides)
        return (left @ right.reshape(len(right), -1)).reshape(len(left), *right.shape[1:])
    array = _spread(name, kind["shape"], parts) if "shape" in kind else parts[name]
    scale = parts.get(f"{name}.scale")
    return array if scale is None else array.astype(scale.dtype) * scale


def _spread(name: str, shape: tuple[int, ...], parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array of a shape that has the values at their places, and 0 elsewhere."""
    values = parts[f"{name}.values"]
    flat = np.zeros(math.prod(shape), values.dtype)
    if f"{name}.gaps" in parts:
        places = _places(parts[f"{name}.gaps"])
    else:
        places = np.flatnonzero(np.unpackbits(parts[f"{name}.bits"], count=flat.size))
    flat[places] = values
    return flat.reshape(shape)


def _gaps(places: np.ndarray) -> np.ndarray:
    """Places in increasing order -> bytes."""
    skips, rest = np.divmod(np.diff(places, prepend=-1) - 1, LONGEST)
    encoded = np.full(places.size + skips.sum(), LONGEST, np.uint8)
    encoded[np.cumsum(skips + 1) - 1] = rest
    return encoded


def _places(gaps: np.ndarray) -> np.ndarray:
    """The inverse of `_gaps`."""
    ends = gaps < LONGEST  # of a value, which takes a place itself
    return (np.cumsum(gaps.astype(np.int64) + ends) - 1)[ends]


def _checksum(parts: Mapping[str, np.ndarray], note: str) -> str:
    value = zlib.crc32(note.encode())
    for name in sorted(parts):
        value = zlib.crc32(parts[name].tobytes(), zlib.crc32(name.encode(), value))
    return f"{value:08x}"
