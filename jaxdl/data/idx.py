"""The idx format of the original MNIST files, gzipped or not: magic, big-endian sizes, unsigned bytes."""

import gzip
import io
import math
import struct
import zlib

import numpy as np

GZIP = b"\x1f\x8b"
UNSIGNED_BYTE = 8
# One byte of deflate cannot become more than 1032 bytes (zlib.net, "Technical Details").
MAX_RATIO = 1032


def decode(data: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an idx file.

    Args:
      data: the whole file, gzipped or not.
      name: what an error calls the file.

    Returns:
      A read-only uint8 array of the shape the header states.

    Raises:
      ValueError: damaged gzip data, no idx file, not unsigned bytes, empty, truncated or too long. The memory
        used stays within what a file of this length can hold, whatever its header claims.
    """
    try:
        return _read(data, name)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{name}: damaged or truncated gzip data ({error})") from None


def encode(array: np.ndarray) -> bytes:
    """The bytes of an uncompressed idx file that holds a uint8 array."""
    return (
        bytes([0, 0, UNSIGNED_BYTE, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    )


def _read(data: bytes, name: str) -> np.ndarray:
    zipped = data.startswith(GZIP)
    file = gzip.GzipFile(fileobj=io.BytesIO(data)) if zipped else io.BytesIO(data)
    shape = _shape(file, name)
    count = math.prod(shape)
    if count == 0:
        raise ValueError(f"{name}: holds no items, the header states {shape}")
    if count > len(data) * (MAX_RATIO if zipped else 1):
        raise ValueError(f"{name}: the header states {shape}, which a file of {len(data)} bytes cannot hold")
    # One byte more than is due: it shows trailing data, and makes gzip check its own checksum.
    body = file.read(count + 1)
    if len(body) != count:
        found = f"only {len(body)} follow" if len(body) < count else "more follow"
        raise ValueError(f"{name}: the header states {shape}, which is {count} bytes, but {found}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _shape(file: io.BufferedIOBase, name: str) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        raise ValueError(f"{name}: not an idx file, it starts with {magic.hex(' ') or 'nothing'}")
    if magic[2] != UNSIGNED_BYTE:
        raise ValueError(f"{name}: expected unsigned bytes (type 0x08), got type 0x{magic[2]:02x}")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{name}: the file ends inside its header")
    return struct.unpack(f">{magic[3]}I", sizes)
