"""What one side computed: named tensors of every phase, in memory or in a folder that another machine can read."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What is compared, in this order. Of one step up to `resume`; the thresholds differ (see `parity.verdict`).
PHASES = (
    "weights",
    "eval_forward",
    "train_forward",
    "loss",
    "input_gradients",
    "parameter_gradients",
    "buffers",
    "first_update",
    "optimizer_state",
    "updates",
    "resume",
)
TENSORS, FACTS = "tensors.safetensors", "facts.json"


class RecordingError(ValueError):
    """A folder that holds no whole recording."""


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
        """Writes both files; the tensors as they are, one after the other."""
        import safetensors.numpy

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: np.ascontiguousarray(value) for name, value in self.tensors.items()}
        safetensors.numpy.save_file(arrays, folder / TENSORS)
        (folder / FACTS).write_text(json.dumps(self.facts, indent=1))


class _Lazy(Mapping[str, np.ndarray]):
    """The tensors of a file, each read when it is asked for."""

    def __init__(self, path: Path) -> None:
        import safetensors

        self.file = safetensors.safe_open(path, framework="numpy")
        self.names = tuple(self.file.keys())

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.names:
            raise KeyError(name)
        return self.file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def load(folder: Path) -> Recording:
    """Reads what `Recording.save` wrote; a tensor is in memory only while it is used.

    Raises:
      RecordingError: something is missing or damaged.
    """
    import safetensors

    if not (folder / FACTS).is_file() or not (folder / TENSORS).is_file():
        raise RecordingError(f"{folder} is no dump: expected {FACTS} and {TENSORS} in it")
    try:
        return Recording(_Lazy(folder / TENSORS), json.loads((folder / FACTS).read_text()))
    except (safetensors.SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{folder} is damaged: {error}") from error
