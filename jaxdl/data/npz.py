"""Arrays in a .npz file: read with every claim checked before memory is given to it, written atomically."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files

# The same bound as for gzip: both hold deflate.
MAX_RATIO = 1032
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, read-only.

    Nothing is unpickled, the checksum of every array is verified, and the memory used stays within what a file
    of this length can hold.

    Raises:
      FileNotFoundError: there is no such file, or it cannot be read.
      ValueError: no .npz file, damaged, or an array of Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename.removesuffix(".npy"): _array(archive, info, path) for info in archive.infolist()}
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise FileNotFoundError(f"{path}: cannot read it: {error.strerror}") from None
    # All that zipfile raises on damaged bytes; NotImplementedError is a RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a .npz file, or damaged ({error})") from None


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write a .npz file that is there either whole or not at all."""

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

    files.write_atomic(path, save)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    if info.compress_type not in METHODS or info.file_size > MAX_RATIO * path.stat().st_size:
        raise ValueError(f"{path}: {info.filename} states a size or a compression that .npz files do not have")
    file = io.BytesIO(archive.read(info))
    try:
        shape, fortran, dtype = _header(file)
        body = file.getbuffer()[file.tell() :].toreadonly()
        return np.frombuffer(body, dtype).reshape(shape, order="F" if fortran else "C")
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(f"{path}: {info.filename} is not a plain NumPy array ({error})") from None


def _header(file: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
