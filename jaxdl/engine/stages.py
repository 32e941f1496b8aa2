"""A program cut into stages, each of which hands its activations to the next.

What depends on the images is the spine of a program, and cuts go between layers of it. What does not (casts of
parameters, random masks, labels) is computed in every stage that uses it, so nothing but activations crosses a
cut. A layer begins where the first of its parameters meets the images.

Source: torch's ``torch.distributed.pipelining.pipeline`` with ``SplitPoint.BEGINNING``.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from flax import nnx
from jax.extend import core

from jaxdl import tree
from jaxdl.config import nearest
from jaxdl.typing import Array, PyTree

Rest = Sequence[Array]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a program.

    Attributes:
      layers: that begin in it, in the order of use.
      params: places of the parameters that it reads, among the leaves of all.
      work: floating-point operations of its forward pass.
      carried: shapes and types of what it gets from the stage before; of the first, the images.
      outputs: places of what it computes, among the leaves of what the program returns.
      run: ``(parameters, rest, carried) -> (carried on, outputs)``, each a list of arrays; ``rest`` has all leaves
        of the program's further arguments.
    """

    layers: tuple[str, ...]
    params: tuple[int, ...]
    work: float
    carried: tuple[jax.ShapeDtypeStruct, ...]
    outputs: tuple[int, ...]
    run: Callable[[Sequence[Array], Rest, Sequence[Array]], tuple[list[Array], list[Array]]]


class Program:
    """A function that can be cut.

    Args:
      fn: ``fn(params, images, *rest)``.
      params: a tree of arrays, or of their shapes and types.
      images: one array.
      rest: whatever else it takes.

    Attributes:
      returned: shapes and types of what it returns.
      met: where on the spine the images meet each parameter, by name and in that order.
      starts: where each layer begins.
    """

    def __init__(self, fn: Callable[..., Any], params: PyTree, images: Any, *rest: Any) -> None:
        closed, self.returned = jax.make_jaxpr(fn, return_shape=True)(params, images, *rest)
        program, names = closed.jaxpr, list(tree.flatten(params))
        self.program = program
        self.params, self.images = program.invars[: len(names)], program.invars[len(names)]
        self.rest, self.outvars = program.invars[len(names) + 1 :], program.outvars
        self.constants = dict(zip(program.constvars, closed.consts, strict=True))
        self.spine: list[Any] = []  # equations that depend on the images
        self.sides: dict[Any, Any] = {}  # of a variable that does not: its equation
        reads = {var: {place} for place, var in enumerate(self.params)}  # which parameters it is made of
        self.on_spine = {self.images}
        self.met: dict[str, int] = {}
        for equation in program.eqns:
            used = set().union(*(reads.get(var, ()) for var in _variables(equation.invars)))
            if self.on_spine.isdisjoint(_variables(equation.invars)):
                reads.update(dict.fromkeys(equation.outvars, used))
                self.sides.update(dict.fromkeys(equation.outvars, equation))
                continue
            for place in sorted(used):
                self.met.setdefault(names[place], len(self.spine))
            self.spine.append(equation)
            self.on_spine.update(equation.outvars)
        self.starts: dict[str, int] = {}
        for name, place in self.met.items():
            self.starts.setdefault(name.rpartition(".")[0] or name, place)

    @property
    def layers(self) -> tuple[str, ...]:
        """In the order of use."""
        return tuple(self.starts)

    def place(self, layer: str) -> int:
        """Where on the spine a layer, or a group of them (``layer2``), begins.

        Raises:
          ValueError: there is none of this name.
        """
        places = [place for name, place in self.starts.items() if f"{name}.".startswith(f"{layer}.")]
        if not places:
            known = ", ".join(self.layers)
            raise ValueError(f"the model has no layer {layer}{nearest(layer, self.layers)}; it has {known}")
        return min(places)

    def behind(self, layer: str) -> str | None:
        """The layer that begins behind a layer or all of a group, if there is one; raises as `place`."""
        self.place(layer)
        end = max(place for name, place in self.starts.items() if f"{name}.".startswith(f"{layer}."))
        return next((name for name, place in self.starts.items() if place > end), None)

    def cut(self, at: Sequence[str]) -> tuple[Stage, ...]:
        """The stages that begin with the first layer and with each of those named.

        Raises:
          ValueError: unknown names, or not in the order in which the images meet them.
        """
        places = [self.place(layer) for layer in at]
        if sorted({*places, self.place(self.layers[0])}) != [self.place(self.layers[0]), *places]:
            raise ValueError(
                f"expected layers behind {self.layers[0]}, each behind the one before; got {', '.join(at)}"
            )
        ends = [0, *places, len(self.spine)]
        return tuple(self._stage(a, b, last=b == ends[-1]) for a, b in itertools.pairwise(ends))

    def balanced(self, count: int) -> list[str]:
        """Where to cut into ``count`` stages of which the one with most work has as little as possible.

        Raises:
          ValueError: fewer layers than stages.
        """
        first = {place: layer for layer, place in reversed(self.starts.items())}
        if not 1 <= count <= len(first):
            raise ValueError(f"a model of {len(first)} layers has no {count} stages: {', '.join(self.layers)}")
        places = [0, *sorted(first)[1:], len(self.spine)]
        works = [sum(map(work, self.spine[a:b])) for a, b in itertools.pairwise(places)]
        return [first[places[place]] for place in _least_largest(works, count)]

    def around(self, first: str, last: str) -> tuple[list[str], int]:
        """Where to cut so that one stage is the layers from ``first`` to ``last``, and which of the stages it is.

        Raises:
          ValueError: unknown layers, or the last lies in front of the first.
        """
        begin, behind = self.place(first), self.behind(last)
        if behind is not None and self.place(behind) <= begin:
            raise ValueError(f"layer {last} lies in front of {first}; the order is {', '.join(self.layers)}")
        before = [first] if begin > self.place(self.layers[0]) else []
        return [*before, *([behind] if behind else [])], len(before)

    def _stage(self, begin: int, end: int, *, last: bool) -> Stage:
        """The equations of the spine from ``begin`` to ``end``, with all that they need beside it."""
        equations = self.spine[begin:end]
        own = {var for equation in equations for var in equation.outvars}
        outputs = [
            place
            for place, var in enumerate(self.outvars)
            if (var in own if isinstance(var, core.Var) and var in self.on_spine else last)
        ]
        wanted = [self.outvars[place] for place in outputs]
        needed = self._beside([*_read(equations), *wanted])
        carried, onward = self._crossing(begin), [] if last else self._crossing(end)
        read = {*_read([*needed, *equations]), *_variables(wanted)}
        used = [place for place, var in enumerate(self.params) if var in read]

        inputs = [*self.constants, *(self.params[place] for place in used), *self.rest, *carried]
        part = self.program.replace(
            constvars=(), invars=inputs, outvars=[*onward, *wanted], eqns=[*needed, *equations]
        )
        compute = core.jaxpr_as_fun(core.ClosedJaxpr(part, []))

        def run(params: Sequence[Array], rest: Rest, given: Sequence[Array]) -> tuple[list[Array], list[Array]]:
            made = compute(*self.constants.values(), *params, *rest, *given)
            return made[: len(onward)], made[len(onward) :]

        shapes = tuple(jax.ShapeDtypeStruct(var.aval.shape, var.aval.dtype) for var in carried)
        layers = tuple(name for name, place in self.starts.items() if begin <= place < end)
        return Stage(layers, tuple(used), sum(map(work, equations)), shapes, tuple(outputs), run)

    def _crossing(self, place: int) -> list[Any]:
        """What has to be handed over in front of a place on the spine, in the order in which it was made."""
        made = [self.images, *(var for equation in self.spine[:place] for var in equation.outvars)]
        later = set(_read(self.spine[place:]))
        return [var for var in made if var in later]

    def _beside(self, variables: Iterable[Any]) -> list[Any]:
        """The equations that make variables which do not depend on the images, in their order."""
        open_, found = _variables(variables), set()
        while open_:
            equation = self.sides.get(open_.pop())
            if equation is not None and id(equation) not in found:
                found.add(id(equation))
                open_ += _variables(equation.invars)
        in_order = {id(equation): equation for equation in self.sides.values()}
        return [equation for key, equation in in_order.items() if key in found]


def of_model(model: nnx.Module, image: Any) -> tuple[Program, PyTree, PyTree]:
    """The program of a model in evaluation mode, its parameters and its statistics, which are the program's rest.

    Args:
      model: any.
      image: (B, H, W, C), or its shape and type; B is a number or a symbol of `jax.export`.
    """
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graph, *values = nnx.split(view, nnx.Param, nnx.BatchStat)
    params, stats = (nnx.to_pure_dict(value) for value in values)

    def forward(params: PyTree, image: Array, stats: PyTree) -> Any:
        return nnx.merge(graph, params, stats)(image)  # pyright: ignore[reportCallIssue]

    return Program(forward, params, image, stats), params, stats


def work(equation: Any) -> float:
    """Floating-point operations of an equation; one for each element where they are not products of matrices."""
    params, shape = equation.params, equation.outvars[0].aval.shape
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(shape) * math.prod(left[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        return 2 * math.prod(shape) * (kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]])
    inner = [sum(map(work, part.eqns)) for part in core.jaxprs_in_params(params)]
    if inner:  # of a condition, one branch is taken; platforms are branches as well
        return params.get("length", 1) * (max(inner) if equation.primitive.name == "cond" else sum(inner))
    return math.prod(shape)


def _least_largest(works: Sequence[float], count: int) -> list[int]:
    """Where to divide a row of numbers into ``count`` parts of which the largest sum is least."""

    @functools.cache
    def best(start: int, parts: int) -> tuple[float, tuple[int, ...]]:
        if parts == 1:
            return sum(works[start:]), ()
        options = []
        for cut in range(start + 1, len(works) - parts + 2):
            largest, cuts = best(cut, parts - 1)
            options.append((max(sum(works[start:cut]), largest), (cut, *cuts)))
        return min(options)

    return list(best(0, count)[1])


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, core.Literal)]


def _read(equations: Iterable[Any]) -> list[Any]:
    return [var for equation in equations for var in _variables(equation.invars)]
