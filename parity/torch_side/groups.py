"""A torch module as the bridge sees it: groups of parameters and buffers, and what is tied to what."""

import torch

from parity.bridge import Group

# The classes whose parameters the bridge understands; subclasses count as the first that fits.
KINDS = (
    "Linear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "SyncBatchNorm",
    "LayerNorm",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "RMSNorm",
    "Embedding",
    "EmbeddingBag",
    "LSTM",
    "GRU",
    "RNN",
    "LSTMCell",
    "GRUCell",
    "RNNCell",
    "MultiheadAttention",
    "PReLU",
    "Bilinear",
    "Conv1D",  # of transformers: a Linear whose weight lies (in, out)
)
SETTINGS = ("num_layers", "bidirectional", "num_heads", "groups", "batch_first", "output_padding", "padding")


def describe(module: torch.nn.Module) -> list[Group]:
    """The groups of a module, in the order of definition; the integer buffers are left out."""
    persistent = set(module.state_dict())
    groups = []
    for name, child in module.named_modules():
        own = dict(child.named_parameters(recurse=False, remove_duplicate=False))
        buffers = {
            key: value
            for key, value in child.named_buffers(recurse=False)
            if value.is_floating_point() and (f"{name}.{key}" if name else key) in persistent
        }
        if own or buffers:
            leaves = {key: tuple(value.shape) for key, value in (own | buffers).items()}
            settings = {
                key: getattr(child, key) for key in SETTINGS if isinstance(getattr(child, key, None), int | bool)
            }
            groups.append(Group(name, kind(child), leaves, tuple(buffers), settings))
    return groups


def kind(module: torch.nn.Module) -> str:
    """The first of `KINDS` among the classes of a module, or the name of its own."""
    names = [cls.__name__ for cls in type(module).__mro__]
    return next((name for name in names if name in KINDS), names[0])


def tied(module: torch.nn.Module) -> dict[str, str]:
    """Keys of the state_dict that share a parameter with an earlier one -> that one."""
    first: dict[int, str] = {}
    return {
        name: first[id(value)]
        for name, value in module.named_parameters(remove_duplicate=False)
        if first.setdefault(id(value), name) != name
    }
