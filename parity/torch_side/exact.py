"""What rounds within torch's forward is let loose, as the port's pins are: some norms cast to float32."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

NARROW = (torch.float32, torch.float16, torch.bfloat16)


class Exact(TorchFunctionMode):
    """While it lasts float64 tensors stay float64, whatever type a function is asked for."""

    def __torch_function__(self, function: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if first is None or first.dtype != torch.float64:
            return function(*args, **kwargs)
        if getattr(function, "__name__", "") in ("float", "half", "bfloat16"):
            return first
        wide = [torch.float64 if any(arg is kind for kind in NARROW) else arg for arg in args]
        if kwargs.get("dtype") in NARROW:
            kwargs = kwargs | {"dtype": torch.float64}
        return function(*wide, **kwargs)
