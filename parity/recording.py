"""What one side computed: named tensors of every phase, in memory or in a folder that another machine can read."""

import dataclasses
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# What is compared, in this order. Of one step up to `resume`; the thresholds differ (see `parity.verdict`).
PHASES = (
    "weights",
    "eval_forward",
    "train_forward",
    "large_mean",
    "loss",
    "input_gradients",
    "parameter_gradients",
    "buffers",
    "first_update",
    "optimizer_state",
    "optimizer",
    "updates",
    "resume",
)
TRAINING = ("first_update", "optimizer_state", "optimizer", "updates", "resume")
TENSORS, FACTS = "tensors.safetensors", "facts.json"
FORMAT = 1
# safetensors' names of NumPy's types.
NAMES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


class RecordingError(ValueError):
    """A folder that holds no whole recording, or one that does not fit."""


@dataclasses.dataclass
class Recording:
    """Tensors by ``phase/leaf``, under torch's names and with torch's axes, and what is to be known beside them.

    Attributes:
      tensors: floating-point arrays, float64 whatever the side computed in.
      facts: versions, precision, the shapes that dropout asked masks for, skipped phases, notes.
    """

    tensors: Mapping[str, np.ndarray]
    facts: dict[str, Any]

    def phase(self, name: str) -> dict[str, str]:
        """leaf -> the tensor's full name, of one phase."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): key for key in self.tensors if key.startswith(prefix)}

    def save(self, folder: Path) -> None:
        """Writes both files, one tensor after the other."""
        with Writer(folder) as writer:
            writer.update(self.tensors)
            writer.finish(self.facts)


class Writer(MutableMapping[str, np.ndarray]):
    """A folder that takes tensors as they come and keeps none in memory; what is written can be read.

    The facts are written last: a folder without them holds no whole recording.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FACTS).unlink(missing_ok=True)
        self.folder, self.part = folder, folder / f"{TENSORS}.part"
        self.file = self.part.open("w+b")
        self.entries: dict[str, dict[str, Any]] = {}
        self.checksums: dict[str, int] = {}

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.part.unlink(missing_ok=True)

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        if name in self.entries:
            raise RecordingError(f"{name} was computed twice (a reentrant checkpoint? use use_reentrant=False)")
        array = np.asarray(value, order="C")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        kinds = {np.dtype(kind): key for key, kind in NAMES.items()}
        if array.dtype not in kinds:
            raise RecordingError(f"{name}: a dump holds no {array.dtype}")
        start = self.file.seek(0, os.SEEK_END)
        content = _bytes(array)
        self.file.write(content)
        self.entries[name] = {
            "dtype": kinds[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        self.checksums[name] = zlib.crc32(content)

    def __getitem__(self, name: str) -> np.ndarray:
        self.file.flush()
        return _read(self.file, 0, self.entries[name])

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name}: what is written stays")

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Puts the header before the tensors, then writes the facts."""
        header = json.dumps(self.entries).encode()
        header += b" " * (-len(header) % 8)
        self.file.seek(0)
        with (self.folder / TENSORS).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            shutil.copyfileobj(self.file, file, 1 << 20)
        told = {"format": FORMAT, **facts, "checksums": self.checksums}
        (self.folder / FACTS).write_text(json.dumps(told, indent=1))


class Lazy(Mapping[str, np.ndarray]):
    """The tensors of a file, each read and checked when it is asked for."""

    def __init__(self, path: Path, checksums: Mapping[str, int]) -> None:
        import safetensors

        with safetensors.safe_open(path, framework="numpy"):
            pass  # it checks the header and the size of the file
        self.path, self.checksums = path, checksums
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self.entries: dict[str, dict[str, Any]] = json.loads(file.read(size))
        self.entries.pop("__metadata__", None)
        self.start = 8 + size
        if set(self.entries) != set(checksums):
            raise RecordingError(f"{path} does not belong to the {FACTS} beside it")

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self.entries[name]
        with self.path.open("rb") as file:
            array = _read(file, self.start, entry)
        if zlib.crc32(_bytes(array)) != self.checksums[name]:
            raise RecordingError(f"{self.path} is damaged: {name} is not what was written")
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class View(Mapping[str, np.ndarray]):
    """Tensors under other names, each read when it is asked for.

    Args:
      tensors: to read from.
      names: name here -> name there.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], names: Mapping[str, str]) -> None:
        self.tensors, self.names = tensors, names

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def load(folder: Path) -> Recording:
    """Reads what a `Writer` wrote; a tensor is in memory only while it is used.

    Raises:
      RecordingError: something is missing or damaged; some damage shows only when the tensor is read.
    """
    import safetensors

    if not (folder / FACTS).is_file() or not (folder / TENSORS).is_file():
        raise RecordingError(f"{folder} is no dump: expected {FACTS} and {TENSORS} in it")
    try:
        facts = json.loads((folder / FACTS).read_text())
        if (
            not isinstance(facts, dict)
            or facts.get("format") != FORMAT
            or not isinstance(facts.get("checksums"), dict)
        ):
            raise RecordingError(f"{folder} is no dump of this version: expected format {FORMAT} in {FACTS}")
        return Recording(Lazy(folder / TENSORS, facts["checksums"]), facts)
    except (safetensors.SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{folder} is damaged: {error}") from error


def _read(file: BinaryIO, start: int, entry: Mapping[str, Any]) -> np.ndarray:
    first, last = entry["data_offsets"]
    kind = np.dtype(NAMES[entry["dtype"]])
    file.seek(start + first)
    array = np.fromfile(file, kind, (last - first) // kind.itemsize)
    return array.reshape(entry["shape"])


def _bytes(array: np.ndarray) -> memoryview:
    """An array's content, not copied."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
