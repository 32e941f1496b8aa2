"""A graph as one C file without dependencies, in float32 or with int8 weights and products.

The file is for gcc and clang. One image is computed at a time; every array has a fixed place in one block of
memory, which arrays that are not needed at the same time share.
"""

import jaxdl
from jaxdl.methods.export.c_operations import statements
from jaxdl.methods.export.c_writer import Ranges, Writer
from jaxdl.methods.export.graph import Graph
from jaxdl.methods.export.kernels import HEAD, KERNELS, LANES, MAIN, NEEDS


def source(graph: Graph, ranges: Ranges, classes: tuple[str, ...], file: str) -> str:
    """The text of the runner.

    Args:
      graph: traced for one image.
      ranges: least and largest input of every node that shall be int8.
      classes: their names.
      file: its name, for the comment at its head.
    """
    writer = Writer(graph, ranges)
    body = [line for place, node in enumerate(graph.nodes) for line in statements(writer, node, place)]
    body.append(f"memcpy(logits, {writer.places[graph.logits]}, CLASSES * sizeof(float));")
    _, height, width, channels = graph.image.shape
    head = HEAD.format(
        version=jaxdl.__version__,
        title=f"{height}x{width}x{channels} pixels to {len(classes)} classes, {'int8' if ranges else 'float32'}",
        file=file,
        memory=4 * writer.memory.size + writer.codes + writer.patch,
        height=height,
        width=width,
        channels=channels,
        count=len(classes),
        lanes=LANES,
        names=", ".join(_quoted(name) for name in classes),
    )
    kernels = {need: None for name in writer.kernels for need in (*NEEDS.get(name, ()), name)}
    arrays = [f"static float memory[{writer.memory.size}];"]
    arrays += [f"static int8_t codes[{writer.codes}];"] * bool(writer.codes)
    arrays += [f"static int8_t patch[{writer.patch}];"] * bool(writer.patch)
    function = ["void model(const uint8_t *image, float *logits)", "{", *(f"    {line}" for line in body), "}", ""]
    parts = [head, *writer.constants, *(KERNELS[name] for name in kernels), *arrays, "", *function, MAIN]
    return "\n".join(parts)


def _quoted(name: str) -> str:
    return (
        '"'
        + "".join(
            f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b'"\\?' else chr(byte) for byte in name.encode()
        )
        + '"'
    )
