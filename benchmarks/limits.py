"""What the machine can do with a workload at best: its matrix products alone, and a copy of its parameters.

``python -m benchmarks.limits torch WORKLOAD FOLDER`` counts and times, then ``jax`` times the same products: a
process each, as the arms. The faster of the two is the limit. A convolution that is not computed as a product
(Winograd) can pass it.
"""

import collections
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process import output
from benchmarks.products import Product, count
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import EVAL_BATCH, Workload

REPEATS, WINDOWS = 10, 5
SECONDS = 0.03  # of a window
COPY = 2**27  # bytes, more than caches hold
FILE = "products.json"


def measure(workload: str, folder: Path) -> dict[str, Any]:
    """Floating-point operations and least seconds of a batch, forward and with gradients; copies.

    Args:
      workload: its name.
      folder: what `benchmarks.prepare` filled.

    Returns:
      ``forward`` and ``backward``: ``flops``, ``seconds``; ``update``: seconds in which the optimizer's reading
      and writing could be done; ``bandwidth``: bytes a second, read and written, of a copy of 128 MiB.

    Raises:
      ArmError: one of the processes failed.
    """
    found, other = (
        json.loads(output(["-m", "benchmarks.limits", framework, workload, str(folder)])[1][-1])
        for framework in ("torch", "jax")
    )
    passes = (
        5 if WORKLOADS[workload].momentum else 3
    )  # parameter and gradient (and momentum) read, all but it written
    update = found["copy"] * passes / 2
    return {
        "forward": _least(found["forward"], found["seconds"], other["seconds"]),
        "backward": _least(found["backward"], found["seconds"], other["seconds"]),
        "update": update,
        "bandwidth": found["bandwidth"],
    }


def of(limits: Mapping[str, Any], workload: Workload, phase: str) -> dict[str, float]:
    """``flops`` and least ``seconds`` of a batch in a phase; evaluation is scaled to its own batch."""
    if phase in ("forward", "evaluation"):
        scale = EVAL_BATCH / workload.batch_size if phase == "evaluation" else 1.0
        return {name: scale * value for name, value in limits["forward"].items()}
    found = limits["backward"]
    return found | {"seconds": found["seconds"] + (limits["update"] if phase != "backward" else 0)}


def _least(counts: Sequence[Sequence[int]], *seconds: Sequence[float]) -> dict[str, float]:
    """Of rows (count, place in the list of products, flops)."""
    best = [min(pair) for pair in zip(*seconds, strict=True)]
    return {
        "flops": float(sum(number * flops for number, _, flops in counts)),
        "seconds": sum(number * best[place] for number, place, _ in counts),
    }


def main() -> None:
    """The process of a framework: JSON on its last line."""
    framework, workload, folder = sys.argv[1], WORKLOADS[sys.argv[2]], Path(sys.argv[3])
    print(json.dumps({"torch": _torch, "jax": _jax}[framework](workload, folder)))


def _torch(workload: Workload, folder: Path) -> dict[str, Any]:
    from benchmarks.arms import torch_parts

    place = torch_parts.device()
    net = torch_parts.twin(workload, folder, place)
    forward, backward = _counts(net, workload, place)
    shapes = sorted(set(forward) | set(backward))
    (folder / FILE).write_text(json.dumps(shapes))
    rows = [
        [[number, shapes.index(product), product.flops] for product, number in found.items()]
        for found in (forward, backward)
    ]
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {
        "forward": rows[0],
        "backward": rows[1],
        "seconds": [_torch_product(product, place) for product in shapes],
        "copy": _torch_copy(4 * parameters, place),
        "bandwidth": 2 * COPY / _torch_copy(COPY, place),
    }


def _counts(net: Any, workload: Workload, place: Any) -> tuple[collections.Counter[Product], ...]:
    import torch
    from torch.nn import functional

    height, width, channels = workload.image_shape
    image = torch.rand((workload.batch_size, channels, height, width), device=place)
    label = torch.zeros(workload.batch_size, dtype=torch.int64, device=place)

    def forward() -> None:
        with torch.no_grad():
            net(image)

    return count(forward), count(lambda: functional.cross_entropy(net(image), label).backward())


def _torch_product(product: Product, place: Any) -> float:
    import torch

    batch, m, k, n = product
    a, b = torch.randn((batch, m, k), device=place), torch.randn((batch, k, n), device=place)
    a, b = (a[0], b[0]) if batch == 1 else (a, b)
    out = a @ b
    return _torch_best(lambda: torch.matmul(a, b, out=out), place)


def _torch_copy(size: int, place: Any) -> float:
    """Seconds of a copy of ``size`` bytes."""
    import torch

    source = torch.ones(max(size // 4, 1), device=place)
    target = torch.empty_like(source)
    return _torch_best(lambda: target.copy_(source), place)


def _torch_best(run: Callable[[], Any], place: Any) -> float:
    import torch

    def some() -> None:
        for _ in range(REPEATS):
            run()
        if place.type == "cuda":
            torch.cuda.synchronize()

    return best(some) / REPEATS


def _jax(_: Workload, folder: Path) -> dict[str, Any]:
    shapes = [Product(*shape) for shape in json.loads((folder / FILE).read_text())]
    return {"seconds": [_jax_product(product) for product in shapes]}


def _jax_product(product: Product) -> float:
    """In a loop on the device, where starting a product costs nothing."""
    import jax

    batch, m, k, n = product
    a, b = (jax.random.normal(jax.random.key(0), (batch, *shape)) for shape in ((m, k), (k, n)))
    a, b = (a[0], b[0]) if batch == 1 else (a, b)
    start = (0,) * a.ndim

    def again(_: int, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        a, out = carry  # each product needs the one before, or one would do for all
        a = jax.lax.dynamic_update_slice(a, jax.lax.dynamic_slice(out, start, (1,) * a.ndim), start)
        return a, a @ b

    program = jax.jit(lambda a, b: jax.lax.fori_loop(0, REPEATS, again, (a, a @ b))[1])
    return best(lambda: jax.block_until_ready(program(a, b))) / (REPEATS + 1)


def best(run: Callable[[], Any]) -> float:
    """Seconds of a call: the best mean of some windows, after one call that is not counted."""
    run()
    means = []
    for _ in range(WINDOWS):
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            run()
            calls += 1
        means.append((time.perf_counter() - started) / calls)
    return min(means)


if __name__ == "__main__":
    main()
