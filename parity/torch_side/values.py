"""What a torch module returns, on the host and by name."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def outputs(values: Any) -> dict[str, torch.Tensor]:
    """The tensors in what a module returned, by their place."""
    if isinstance(values, torch.Tensor):
        return {"output": values}
    items = (
        values.items()
        if isinstance(values, Mapping)
        else enumerate(values)
        if isinstance(values, tuple | list)
        else ()
    )
    found = {}
    for place, value in items:
        inner = outputs(value)
        found |= {str(place) if name == "output" else f"{place}.{name}": tensor for name, tensor in inner.items()}
    return found


def numpy(tensor: torch.Tensor) -> np.ndarray:
    """A copy as NumPy array, float64 unless it is no floating-point tensor."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy().copy()


def mapped(values: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same arguments or results with every floating-point tensor changed; what is no container stays."""
    if isinstance(values, torch.Tensor):
        return change(values) if values.is_floating_point() else values
    if hasattr(values, "_fields"):
        return type(values)(*(mapped(value, change) for value in values))
    if type(values) in (tuple, list):
        return type(values)(mapped(value, change) for value in values)
    if type(values) is dict:
        return {name: mapped(value, change) for name, value in values.items()}
    if isinstance(values, Mapping) and all(isinstance(name, str) for name in values):
        return type(values)(**{name: mapped(value, change) for name, value in values.items()})
    return values
