"""The formats there are: how each is written and loaded again, and what it needs."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jax import export

from jaxdl.config import nearest
from jaxdl.methods.export import c, stablehlo
from jaxdl.methods.export.graph import Graph
from jaxdl.methods.export.program import Loaded, Program
from jaxdl.methods.export.trace import trace

PACKAGES = "pip install 'jaxdl[export]'"
# What it depends on asks for an older typing-extensions than tyro does; converting needs none of that.
CONVERTER = "pip install ai-edge-litert && pip install --no-deps litert-converter"
QUANTIZER = f"{CONVERTER} litert-quantizer litert-lm-builder immutabledict"


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of artefact.

    Attributes:
      file: its name.
      write: ``(program, path, images for calibration)``.
      load: the file, ready to run.
      int8: whether it computes in int8, so that its outputs are near the model's and not equal.
      run: how it is used, one line.
      modules, install: what has to be importable, and the command that makes it so.
    """

    file: str
    write: Callable[[Program, Path, np.ndarray], None]
    load: Callable[[Path], Loaded]
    run: str
    int8: bool = False
    modules: tuple[str, ...] = ()
    install: str = PACKAGES

    def missing(self) -> str | None:
        """What is not there, and the command that installs it; None where nothing is missing."""
        if self.file.endswith(".c"):
            return None if c.compiler() else "it needs a C compiler (cc, gcc or clang) to be proven"
        lacking = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"it needs {' and '.join(lacking)}: {self.install}" if lacking else None


def chosen(names: tuple[str, ...]) -> dict[str, Format]:
    """The formats of these names; without any, those that can be written here.

    Raises:
      ValueError: an unknown name, with the nearest; one whose packages are missing, with the command for them.
    """
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"--formats must be of {', '.join(FORMATS)}; got {name}{nearest(name, FORMATS)}")
        if reason := FORMATS[name].missing():
            raise ValueError(f"{name}: {reason}")
    return {name: FORMATS[name] for name in names or FORMATS if not FORMATS[name].missing()}


def _any_batch(program: Program) -> Graph:
    return trace(program, export.symbolic_shape("batch")[0])


def _onnx(program: Program, path: Path, _: np.ndarray) -> None:
    from jaxdl.methods.export import onnx_file

    onnx_file.save(_any_batch(program), program.classes, path)


def _onnx_int8(program: Program, path: Path, images: np.ndarray) -> None:
    from jaxdl.methods.export import onnx_file

    onnx_file.save_int8(_any_batch(program), program.classes, path, images)


def _load_onnx(path: Path) -> Loaded:
    from jaxdl.methods.export import onnx_file

    return onnx_file.load(path)


def _litert(program: Program, path: Path, _: np.ndarray) -> None:
    from jaxdl.methods.export import litert

    litert.save(program, path)


def _litert_int8(program: Program, path: Path, images: np.ndarray) -> None:
    from jaxdl.methods.export import litert

    litert.save_int8(program, path, images)


def _load_litert(path: Path) -> Loaded:
    from jaxdl.methods.export import litert

    return litert.load(path)


def _c(program: Program, path: Path, _: np.ndarray) -> None:
    c.save(trace(program, 1), program.classes, path)


def _c_int8(program: Program, path: Path, images: np.ndarray) -> None:
    c.save_int8(trace(program, 1), program.classes, path, images)


FORMATS = {
    "stablehlo": Format(
        "model.stablehlo",
        lambda program, path, _: stablehlo.save(program, path),
        stablehlo.load,
        "jax.export.deserialize(bytearray(path.read_bytes())).call(images)",
        modules=("flatbuffers",),
    ),
    "onnx": Format(
        "model.onnx",
        _onnx,
        _load_onnx,
        "onnxruntime.InferenceSession(path).run(None, {'image': images})",
        modules=("onnx", "onnxruntime"),
    ),
    "onnx-int8": Format(
        "model-int8.onnx",
        _onnx_int8,
        _load_onnx,
        "onnxruntime.InferenceSession(path).run(None, {'image': images})",
        int8=True,
        modules=("onnx", "onnxruntime"),
    ),
    "litert": Format(
        "model.tflite",
        _litert,
        _load_litert,
        "ai_edge_litert.interpreter.Interpreter(path).get_signature_runner()(image=image)",
        modules=("ai_edge_litert", "litert_converter"),
        install=CONVERTER,
    ),
    "litert-int8": Format(
        "model-int8.tflite",
        _litert_int8,
        _load_litert,
        "ai_edge_litert.interpreter.Interpreter(path).get_signature_runner()(image=image)",
        int8=True,
        modules=("ai_edge_litert", "litert_converter", "litert_quantizer"),
        install=QUANTIZER,
    ),
    "c": Format("model.c", _c, c.load, "cc -O3 -march=native -o model model.c -lm && ./model digit.pgm"),
    "c-int8": Format(
        "model-int8.c",
        _c_int8,
        c.load,
        "cc -O3 -march=native -o model model-int8.c -lm && ./model digit.pgm",
        int8=True,
    ),
}
