"""The program as a .tflite file, by LiteRT's own converter from StableHLO; TensorFlow is not needed."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax import export

from jaxdl.methods.export.program import Loaded, Program, in_python

# The converter knows XLA's own convolution and pooling, which this platform gets in place of the CPU's matrices.
PLATFORM = "tpu"


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Without what the C++ of LiteRT writes to stderr while it starts; its errors are exceptions."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _silenced():
    from ai_edge_litert.interpreter import Interpreter
    from litert_converter.mlir import ir, passmanager  # pyright: ignore[reportMissingImports]
    from litert_converter.mlir._mlir_libs import converter_api_ext as converter  # pyright: ignore


def save(program: Program, path: Path) -> None:
    """Writes the model for one image at a time; its signature has ``image`` and ``logits``."""
    module = export.export(jax.jit(program.baked()), platforms=(PLATFORM,))(program.spec(1)).mlir_module()
    context = ir.Context()  # pyright: ignore[reportAttributeAccessIssue]
    converter.prepare_mlir_context(context)
    with context, _silenced():
        parsed = ir.Module.parse(module)  # pyright: ignore[reportAttributeAccessIssue]
        converter.set_signature(
            parsed.operation, signature_name="serving_default", input_names=["image"], output_names=["logits"]
        )
        converter.run_convert_to_tfl_passes(parsed, passmanager.PassManager(), converter.ConvertToTFLConfig())  # pyright: ignore[reportAttributeAccessIssue]
        path.write_bytes(converter.export_flatbuffer_to_bytes(parsed.operation))


def load(path: Path) -> Loaded:
    """The file in LiteRT's interpreter, on one thread of the CPU."""
    with _silenced():
        interpreter = Interpreter(str(path), num_threads=1)
        interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def one(image: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source["index"], image[None])
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])[0]

    return in_python(lambda images: np.stack([one(image) for image in images]))
