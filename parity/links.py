"""The table of weights between a torch state_dict and a Flax module, and the way over it in both directions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.nn.layout import Layout


class BridgeError(ValueError):
    """Leaves that cannot be matched; all of them, one a line."""


@dataclasses.dataclass(frozen=True)
class Group:
    """A torch module with parameters or buffers of its own; plain data, so that it can be written to a file.

    Attributes:
      name: dotted path, empty for the root.
      kind: what class it is, see `parity.torch_side.KINDS`.
      leaves: local name -> shape.
      buffers: those of the leaves that are buffers.
      settings: number of layers and the like.
    """

    name: str
    kind: str
    leaves: dict[str, tuple[int, ...]]
    buffers: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def key(self, leaf: str) -> str:
        """The key of a leaf in the state_dict."""
        return f"{self.name}.{leaf}" if self.name else leaf


@dataclasses.dataclass(frozen=True)
class FlaxLeaf:
    """A floating-point variable of the port.

    Attributes:
      path: from the root.
      shape: of its value.
      kind: the class that holds it.
      statistic: the model itself updates it; the optimizer does not.
      layout: how its axes lie in torch, where the variable says so.
      transposed: the ``transpose_kernel`` of a transposed convolution.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str = ""
    statistic: bool = False
    layout: Layout | None = None
    transposed: bool = False

    @property
    def name(self) -> str:
        """Its dotted path."""
        return ".".join(self.path)


# Where a layout's split says (H, W, C): of a weight (H * W * C, out), as Flax's Linear has it, or of one
# (out, H * W * C), as jaxdl's.
IMAGES = {(3, 2, 0, 1): slice(3), (0, 3, 1, 2): slice(1, 4)}


@dataclasses.dataclass(frozen=True)
class Way:
    """How one torch array becomes one Flax array: axes permuted, space mirrored, reshaped; or a jaxdl layout.

    Attributes:
      perm: of torch's axes; empty for none.
      mirrored: the axes of torch's array that run backwards.
      layout: instead of both.
    """

    perm: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()
    layout: Layout | None = None

    @property
    def image(self) -> tuple[int, int, int] | None:
        """(H, W, C) of the image that is flattened in front, in another order than torch's; None without one."""
        if self.layout and self.layout.split and self.layout.perm in IMAGES:
            height, width, channels = self.layout.split[IMAGES[self.layout.perm]]  # pyright: ignore[reportArgumentType]
            return height, width, channels
        return None

    def to_flax(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """torch's array with the axes of a Flax variable of this shape."""
        if self.layout:
            return self.layout.from_torch(array, shape)
        array = np.flip(array, self.mirrored) if self.mirrored else array
        return np.ascontiguousarray(array.transpose(self.perm) if self.perm else array).reshape(shape)

    def to_torch(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The inverse, for a torch array of this shape."""
        if self.layout:
            return self.layout.to_torch(array)
        if self.perm:
            array = array.reshape([shape[axis] for axis in self.perm]).transpose(np.argsort(self.perm))
        array = np.ascontiguousarray(array).reshape(shape)
        return np.ascontiguousarray(np.flip(array, self.mirrored)) if self.mirrored else array


SAME = Way()
TRANSPOSED = Way((1, 0))


@dataclasses.dataclass(frozen=True)
class Rule:
    """Says what `infer` should not have to find out.

    Attributes:
      torch: regular expression for the whole key of a torch parameter or buffer.
      flax: its dotted path in the port, with ``\\1`` for groups.
      perm: torch's axes in the port's order; None to infer it. (1, 0) for a Linear.
      flatten: (C, H, W) of the image that is flattened in front of a Linear whose port flattens (H, W, C).
      part: (i, n): the port's variable is the i-th of n equal parts of torch's first axis.
    """

    torch: str
    flax: str
    perm: tuple[int, ...] | None = None
    flatten: tuple[int, int, int] | None = None
    part: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a Flax variable's numbers are: the same part of one torch array, or of several that are added up.

    Attributes:
      keys: of the state_dict. Two for the biases of a recurrent layer, of which Flax keeps only the sum.
      shape: of each array, before it is cut.
      part: (i, n) of the first axis; (0, 1) is the whole.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    part: tuple[int, int] = (0, 1)

    @property
    def cut(self) -> tuple[int, ...]:
        """The shape of the part."""
        return (self.shape[0] // self.part[1], *self.shape[1:]) if self.part[1] > 1 else self.shape

    @property
    def name(self) -> str:
        """Under which its values are compared."""
        return self.keys[0]

    @property
    def place(self) -> Any:
        """What the part is taken with: a slice of the first axis, or everything."""
        index, count = self.part
        size = self.shape[0] // count if count > 1 else 0
        return slice(index * size, (index + 1) * size) if count > 1 else ...

    def take(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The numbers; a term that is not given counts nothing."""
        first, *rest = (np.asarray(values[key])[self.place] for key in self.keys if key in values)
        for term in rest:
            first = np.where(term == 0, first, first + term)  # a sum with zero keeps every bit, -0.0 as well
        return first

    def __str__(self) -> str:
        place = self.place
        cut = "" if place is ... else f"[{place.start}:{place.stop}]"
        return " + ".join(f"{key}{cut}" for key in self.keys)


@dataclasses.dataclass(frozen=True)
class Link:
    """One Flax variable and its source.

    Attributes:
      source, leaf: the two.
      way: between them.
      how: what matched them.
      others: ways that fit the shape as well, to be settled by probing.
    """

    source: Source
    leaf: FlaxLeaf
    way: Way
    how: str
    others: tuple[Way, ...] = ()


@dataclasses.dataclass(frozen=True)
class Bridge:
    """The table, and the way over it in both directions.

    Where the port keeps one bias for torch's sum of two, the first of torch's stands for the sum and the other is
    zero and held still: this computes the same, and trains as the port does.

    Attributes:
      links: one a Flax variable.
      ignored: torch keys and Flax paths without counterpart -> why.
      tied: torch keys that share the parameter of another.
    """

    links: tuple[Link, ...]
    ignored: Mapping[str, str]
    tied: Mapping[str, str]

    def to_flax(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Flax variables by dotted path from a state_dict, or from a part of one."""
        given = [link for link in self.links if link.source.name in values]
        return {link.leaf.name: link.way.to_flax(link.source.take(values), link.leaf.shape) for link in given}

    def to_torch(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Under torch's keys and in its shapes, what belongs to some or all Flax variables.

        Args:
          values: by dotted path; a torch array of which a part is not given is left out, and so is what is held.
        """
        found: dict[str, np.ndarray] = {}
        missing = {link.source.name for link in self.links if link.leaf.name not in values}
        for link in self.links:
            source = link.source
            if source.name not in missing:
                array = link.way.to_torch(np.asarray(values[link.leaf.name]), source.cut)
                if source.place is ...:
                    found[source.name] = array
                else:
                    found.setdefault(source.name, np.zeros(source.shape, array.dtype))[source.place] = array
        return found

    def state_dict(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All that a torch state_dict holds of these variables: with zeros for what is held, and tied keys."""
        found = self.to_torch(values)
        for link in self.links:
            for key in link.source.keys[1:]:
                if link.source.name in found:
                    found.setdefault(key, np.zeros(link.source.shape, found[link.source.name].dtype))
        return found | {key: found[first] for key, first in self.tied.items() if first in found}

    def merged(self, values: Mapping[str, np.ndarray], meaning: str = "value") -> dict[str, np.ndarray]:
        """torch's own values with every sum that the port keeps as one variable moved into its first term.

        Args:
          values: by torch key.
          meaning: "value": the terms are added. "gradient": they are alike, the first is taken.
        """
        result = dict(values)
        for source in [link.source for link in self.links if len(link.source.keys) > 1]:
            keys = [key for key in source.keys if key in result]
            for key in keys:
                result[key] = np.array(result[key])
            if meaning == "value" and len(keys) == len(source.keys):
                result[source.name][source.place] = source.take(result)
            for key in set(keys) - {source.name}:
                result[key][source.place] = 0
        return result

    @property
    def held(self) -> frozenset[str]:
        """torch parameters, or parts ``key[start:stop]`` of them, that must not move if training is compared."""
        first = {link.source.name for link in self.links}
        found = set()
        for source in [link.source for link in self.links]:
            for key in source.keys[1:]:
                place = source.place
                found.add(key if key not in first or place is ... else f"{key}[{place.start}:{place.stop}]")
        return frozenset(found)

    @property
    def flattened(self) -> list[tuple[int, int, int]]:
        """(H, W, C) of every image that the port flattens in another order than torch."""
        return [link.way.image for link in self.links if link.way.image]

    def lines(self) -> list[str]:
        """The table for people: what, where, how."""
        rows = [f"{link.source} -> {link.leaf.name} {link.leaf.shape} ({link.how})" for link in self.links]
        rows += [f"{name}: tied to {first}" for name, first in self.tied.items()]
        return rows + [f"{name}: ignored, {reason}" for name, reason in self.ignored.items()]
