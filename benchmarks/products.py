"""Which matrix products a network consists of.

A convolution counts as the product that computes it, (images x places, inputs x kernel) times (inputs x kernel,
outputs); attention as its two. Nothing else is counted: these are the floating-point operations that people mean.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple


class Product(NamedTuple):
    """``batch`` products of (m, k) with (k, n)."""

    batch: int
    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition each."""
        return 2 * self.batch * self.m * self.k * self.n


def count(run: Callable[[], Any]) -> Counter[Product]:
    """The products that PyTorch executes in a call, attention taken apart.

    Source: torch.utils.flop_counter, which counts the same operators and does not tell the shapes.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode

    found: Counter[Product] = Counter()

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            found.update(products(func.overloadpacket.__name__, args, out))
            return out

    with sdpa_kernel(SDPBackend.MATH), Record():
        run()
    return found


def products(name: str, args: Any, out: Any) -> list[Product]:
    """Those of one call of an operator of torch."""
    if name in ("mm", "addmm", "bmm", "baddbmm"):
        a, b = args[-2:]
        m, k = a.shape[-2:]
        return [Product(math.prod(a.shape[:-2]), m, k, b.shape[-1])]
    if name == "convolution":
        return [_convolution(out, args[1], args[8])]
    if name == "convolution_backward":
        batch, m, k, n = _convolution(args[0], args[2], args[9])
        both = Product(batch, m, n, k), Product(batch, k, m, n)  # of the input, of the weight
        return [product for product, wanted in zip(both, args[10][:2], strict=True) if wanted]
    return []


def _convolution(out: Any, weight: Any, groups: int) -> Product:
    places = out.numel() // out.shape[1]
    return Product(groups, places, math.prod(weight.shape[1:]), out.shape[1] // groups)
