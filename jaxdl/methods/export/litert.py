"""The program as a .tflite file, by LiteRT's own converter and quantizer; TensorFlow is not needed."""

import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax import export

from jaxdl.methods.export.program import Loaded, Program, in_python

# The converter knows XLA's own convolution and pooling, which this platform gets in place of the CPU's matrices.
PLATFORM = "tpu"
# What is computed in int8: nearly all the work. Of the rest the quantizer makes files that LiteRT cannot run.
INT8 = ("CONV_2D", "FULLY_CONNECTED")


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


def save_int8(program: Program, path: Path, images: np.ndarray) -> None:
    """Writes it with int8 weights (one scale a channel) and activations, whose ranges ``images`` give."""
    from litert_quantizer.calibrator import Calibrator  # pyright: ignore[reportMissingImports]
    from litert_quantizer.qtyping import TFLOperationName  # pyright: ignore[reportMissingImports]
    from litert_quantizer.quantizer import Quantizer  # pyright: ignore[reportMissingImports]
    from litert_quantizer.recipe_manager import RecipeManager  # pyright: ignore[reportMissingImports]
    from litert_quantizer.utils.qsv_utils import min_max_update  # pyright: ignore[reportMissingImports]

    recipe = RecipeManager()
    for name in INT8:
        recipe.add_static_config(".*", TFLOperationName(name), 8, 8)
    with tempfile.TemporaryDirectory() as folder, _silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the memory that its own calibration takes
        plain = Path(folder) / "float.tflite"
        save(program, plain)
        # By default the ranges are moving averages, which cut large logits off.
        calibrator = Calibrator(str(plain), num_threads=1, qsv_update_func=min_max_update)
        with contextlib.redirect_stderr(io.StringIO()):
            calibrator.calibrate({"serving_default": [{"image": image[None]} for image in images]}, recipe)
            quantizer = Quantizer(str(plain), recipe.get_quantization_recipe())
            found = quantizer.quantize(calibrator.get_model_qsvs(), enable_progress_report=False)
        path.write_bytes(found.quantized_model)


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
