"""The program as StableHLO by `jax.export`: for every platform that XLA compiles for, without the model's code."""

from pathlib import Path

import jax
import numpy as np
from jax import export

from jaxdl.methods.export.program import Loaded, Program, in_python

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def save(program: Program, path: Path) -> None:
    """Writes what ``jax.export.deserialize(path.read_bytes()).call(images)`` runs, for any number of images."""
    (batch,) = export.symbolic_shape("batch")
    exported = export.export(jax.jit(program.baked()), platforms=PLATFORMS)(program.spec(batch))
    path.write_bytes(exported.serialize())


def load(path: Path) -> Loaded:
    """The file on this process's device."""
    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return in_python(lambda images: np.asarray(call(images)))
