"""A proof in two environments: torch's side goes to a folder, the port's to another; they are compared offline.

Only `dump_torch` needs torch, only `dump_flax` needs JAX. Tensors go to the file as they come and are read one by
one, so that without updates (``steps=0``) no side holds more than the weights and a part of the gradients.
"""

import contextlib
import ctypes
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np

from parity import verdict
from parity.bridge import Group, infer
from parity.pair import Pair, PairError
from parity.recording import FACTS, Recording, RecordingError, Writer, load
from parity.verdict import Judgement

STEPS = 5
START = "start"  # the phase that holds torch's initial weights
M_MMAP_THRESHOLD = -3  # of malloc.h
PORTIONS = 4  # a port without updates has so large a part of its gradients in memory at once


def dump_torch(pair: Pair, folder: Path, *, seed: int = 0, steps: int = STEPS, hold: tuple[str, ...] = ()) -> None:
    """Writes what torch computes in float64, and all that the port's side has to know.

    Args:
      pair: its torch part and batches. A function that makes the module saves a copy of it.
      folder: takes the dump.
      seed: of weights that are shaken, batches, masks.
      steps: updates in lockstep; 0 for none, which is what a large model wants.
      hold: parameters that no update changes: where the port keeps one bias for torch's sum of two, the second.

    Raises:
      PairError: the pair cannot be run.
    """
    from parity import torch_side
    from parity.prove import ROUNDING, precise

    _give_back()
    with precise(), Writer(Path(folder)) as writer:
        module, weights, told = _module(pair, seed)
        known = [dataclasses.asdict(group) for group in torch_side.describe(module)]
        own, held = not steps, frozenset(hold)
        side = torch_side.TorchSide(pair, module, weights, hold=held, own=own)
        writer.update({f"{START}/{name}": value for name, value in weights.items()})
        facts = torch_side.record(side, seed=seed, steps=steps, into=writer).facts
        facts |= {"groups": known, "tied": side.ties, "hold": sorted(held)}
        facts["scheduled"] = bool(pair.torch_scheduler)
        if own:  # the weights are the module's: they change one by one
            for place, name in enumerate(weights):
                torch_side.load(module, torch_side.perturbed({name: weights[name]}, seed + place, ROUNDING))
        else:
            weights = torch_side.perturbed(weights, seed, ROUNDING)
        floors = _Floors(writer)
        again = torch_side.TorchSide(pair, module, {} if own else weights, hold=held, noise=ROUNDING, own=own)
        torch_side.record(again, seed=seed, steps=steps, into=floors)
        batches = [pair.batch(seed, step) for step in range(max(1, steps))]
        facts["warnings"] = [*told, *verdict.stimulus(facts, [pair.batch(seed, step) for step in range(2)])]
        facts |= {"pair": pair.name, "floors": floors.errors, "batches": [_digest(*batch) for batch in batches]}
        writer.finish(facts)


def dump_flax(pair: Pair, source: Path, folder: Path) -> None:
    """Writes what the port computes in float64 from torch's weights, batches and masks; torch is not needed.

    Args:
      pair: its Flax part and batches; ``pair.torch`` is not touched.
      source: what `dump_torch` wrote.
      folder: takes the dump.

    Raises:
      PairError, BridgeError: the pair cannot be run or matched, or is another than the one in ``source``.
      RecordingError: ``source`` is no whole dump of torch's side.
    """
    from parity import flax_side, mask_orders, trials

    _give_back()
    theirs = _side(Path(source), "torch")
    noted = theirs.facts
    seed, steps = noted["seed"], noted["steps"]
    _same_batches(pair, noted, Path(source))
    with flax_side.precise(), Writer(Path(folder)) as writer:
        empty = pair.weights == "copy" and not pair.ignore
        side = flax_side.FlaxSide(pair, pair.flax_module(), pair.batch(seed, 0)[0], empty=empty)
        groups = [_group(group) for group in noted["groups"]]
        bridge = infer(groups, side.leaves, tied=noted["tied"], rules=pair.rules, ignore=pair.ignore)
        start = _Start(theirs.tensors)
        bridge, open_ = trials.settle(bridge, side, theirs, start)
        side.flattened = bridge.flattened
        if steps and bridge.held != frozenset(noted["hold"]):
            raise PairError(
                "the port keeps one bias where torch adds two, which together move twice as far: "
                f"dump torch's side again with hold={tuple(sorted(bridge.held))}"
            )
        if pair.weights == "copy":
            for link in bridge.links:
                side.load(dataclasses.replace(bridge, links=(link,)).to_flax(start))
        elif pair.weights != "loaded":
            side.load(flax_side.converted(pair.weights(dict(start)), side))
        mask_orders.settle(side, theirs, seed)
        if pair.weights != "copy":
            own = bridge.to_torch(side.variables())
            writer.update({f"weights/{name}": value for name, value in own.items()})
        size = sum(start.size(name) for name in start) if not steps else None
        portion = None if size is None else max(1 << 20, size // PORTIONS)
        given = {"seed": seed, "steps": steps, "start": start, "into": writer, "portion": portion}
        facts = flax_side.record(side, bridge, theirs, **given).facts
        if pair.weights == "copy":
            facts["skipped"]["weights"] = "the bridge carried them"
        facts["warnings"] = [*open_, *(f"{name}: ignored, {reason}" for name, reason in bridge.ignored.items())]
        sums = [(link.source.keys, link.source.place) for link in bridge.links if len(link.source.keys) > 1]
        facts["sums"] = [[*keys, *([] if place is ... else [place.start, place.stop])] for keys, place in sums]
        facts |= {"pair": pair.name, "bridge": bridge.lines(), "held": sorted(bridge.held)}
        facts["of"] = _mark(Path(source))
        writer.finish(facts)


def compare(a: Path, b: Path) -> Judgement:
    """Judges two dumps, torch's and the port's in either order, as `parity.prove.prove` does, without frameworks.

    Raises:
      RecordingError: one is no whole dump, or they do not belong together.
    """
    a, b = Path(a), Path(b)
    sides = {_side(folder).facts["side"]: folder for folder in (a, b)}
    if set(sides) != {"torch", "flax"}:
        raise RecordingError(f"expected torch's dump and the port's, got two of {next(iter(sides))}'s: {a}, {b}")
    torch, flax = (_side(sides[name], name) for name in ("torch", "flax"))
    for fact in ("pair", "seed", "steps", "dtype"):
        if torch.facts[fact] != flax.facts[fact]:
            both = f"torch's {torch.facts[fact]!r}, the port's {flax.facts[fact]!r}"
            raise RecordingError(f"the dumps differ in {fact}: {both}")
    if flax.facts["of"] != _mark(sides["torch"]):
        raise RecordingError(f"{sides['flax']} was made from another dump than {sides['torch']}: dump it again")
    merged = _Merged(torch, flax.facts)
    phases = verdict.judge(Recording(merged, torch.facts), flax, floors=torch.facts["floors"])
    warnings = [*torch.facts["warnings"], *flax.facts["warnings"]]
    warnings += verdict.dropout(torch.facts["dropout"], flax.facts["dropout"])
    facts = {
        "versions": torch.facts["versions"] | flax.facts["versions"],
        "seed": torch.facts["seed"],
        "steps": torch.facts["steps"],
        "rates": torch.facts.get("rates"),
    }
    return Judgement(torch.facts["pair"], phases, tuple(warnings), tuple(flax.facts["bridge"]), facts)


def _give_back() -> None:
    """From here on large arrays that are freed go back to the system; glibc would keep them for later ones."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)


def _module(pair: Pair, seed: int) -> tuple[Any, dict[str, np.ndarray], list[str]]:
    """A torch module of our own in float64, and its weights: its very memory, where they are not shaken."""
    import copy

    import torch

    from parity import torch_side

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = pair.torch_module()
    given = module is pair.torch
    module = (copy.deepcopy(module) if given else module).to(device="cpu", dtype=torch.float64)
    weights, told = torch_side.starting(pair, module, seed)
    return module, weights, told


class _Floors(MutableMapping[str, np.ndarray]):
    """Takes tensors and keeps nothing but their distance from those of the same name."""

    def __init__(self, reference: Mapping[str, np.ndarray]) -> None:
        self.reference, self.errors = reference, {}

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self.errors[name] = verdict.relative(value, self.reference[name])

    def __contains__(self, name: object) -> bool:
        return name in self.errors

    def __getitem__(self, name: str) -> np.ndarray:
        raise KeyError(name)

    def __delitem__(self, name: str) -> None:
        del self.errors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.errors)

    def __len__(self) -> int:
        return len(self.errors)


class _Start(Mapping[str, np.ndarray]):
    """torch's initial weights by key, each read when it is asked for."""

    def __init__(self, tensors: Any) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[f"{START}/{name}"]

    def __iter__(self) -> Iterator[str]:
        return (name.removeprefix(f"{START}/") for name in self.tensors if name.startswith(f"{START}/"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def size(self, name: str) -> int:
        """Its bytes."""
        first, last = self.tensors.entries[f"{START}/{name}"]["data_offsets"]
        return last - first


class _Merged(Mapping[str, np.ndarray]):
    """torch's tensors as `parity.bridge.Bridge.merged` gives them, each made when it is asked for."""

    def __init__(self, torch: Recording, facts: Mapping[str, Any]) -> None:
        self.tensors = torch.tensors
        self.sums = [(_keys(row), _place(row)) for row in facts["sums"]]
        held = set(facts["held"])
        compared = any(name.startswith("weights/") for name in facts["checksums"])
        self.names = {}
        for name in torch.tensors:
            phase, rest = name.split("/", 1)
            if phase == START and compared:
                self.names[f"weights/{rest}"] = name
            elif phase != START and _split(name)[1] not in held:
                self.names[name] = name
        starts = [name.removeprefix(f"{START}/") for name in torch.tensors if name.startswith(f"{START}/")]
        order = {f"parameter_gradients/{name}": place for place, name in enumerate(starts)}
        self.names = dict(sorted(self.names.items(), key=lambda item: order.get(item[0], -1)))  # not as they came

    def __getitem__(self, name: str) -> np.ndarray:
        value = self.tensors[self.names[name]]
        before, key, after = _split(self.names[name])
        gradient = name.startswith(("parameter_gradients/", "optimizer_state/"))
        for keys, place in self.sums:
            if key == keys[0] and not gradient:
                others = [f"{before}{other}{after}" for other in keys[1:]]
                value[place] += sum(self.tensors[other][place] for other in others if other in self.tensors)
            elif key in keys[1:]:
                value[place] = 0
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _keys(row: list[Any]) -> list[str]:
    return [entry for entry in row if isinstance(entry, str)]


def _place(row: list[Any]) -> Any:
    ends = [entry for entry in row if not isinstance(entry, str)]
    return slice(*ends) if ends else ...


def _split(name: str) -> tuple[str, str, str]:
    """``updates/3/fc.weight`` is ``updates/3/`` and ``fc.weight``; an optimizer's slot comes behind."""
    phase, _, rest = name.partition("/")
    if phase in ("gradients", "optimizer", "updates") and "/" in rest:
        step, _, key = rest.partition("/")
        return f"{phase}/{step}/", key, ""
    if phase == "optimizer_state":
        key, dot, slot = rest.rpartition(".")
        return f"{phase}/", key, dot + slot
    return f"{phase}/", rest, ""


def _side(folder: Path, wanted: str = "") -> Recording:
    """A dump in float64, of the wanted side.

    Raises:
      RecordingError: it is something else.
    """
    found = load(folder)
    needed = {"side", "pair", "seed", "steps", "dtype", "versions", "skipped", "warnings", "dropout"}
    if not found.facts.keys() >= needed:
        missing = ", ".join(sorted(needed - found.facts.keys()))
        raise RecordingError(f"{folder} is damaged: {FACTS} has no {missing}")
    if wanted and found.facts["side"] != wanted:
        raise RecordingError(f"{folder} is a dump of {found.facts['side']}'s side, expected {wanted}'s")
    if found.facts["dtype"] != "float64":
        raise RecordingError(f"{folder} was computed in {found.facts['dtype']}, a proof needs float64")
    return found


def _group(facts: Mapping[str, Any]) -> Group:
    leaves = {name: tuple(shape) for name, shape in facts["leaves"].items()}
    return Group(facts["name"], facts["kind"], leaves, tuple(facts["buffers"]), dict(facts["settings"]))


def _same_batches(pair: Pair, noted: Mapping[str, Any], source: Path) -> None:
    for step, digest in enumerate(noted["batches"]):
        if _digest(*pair.batch(noted["seed"], step)) != digest:
            raise PairError(
                f"{source} was made from other batches (pair {noted['pair']!r}, seed {noted['seed']}): "
                f"those of step {step} differ here; is it another pair, or another version of NumPy?"
            )


def _digest(inputs: Mapping[Any, np.ndarray], targets: tuple[np.ndarray, ...]) -> str:
    """Of a batch: keys, types, shapes and values."""
    found = hashlib.sha256()
    for key, value in [*inputs.items(), *enumerate(targets)]:
        found.update(f"{key} {value.dtype.str} {value.shape}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def _mark(folder: Path) -> str:
    """Tells one dump from every other: its facts hold the checksums of all tensors."""
    return hashlib.sha256((folder / FACTS).read_bytes()).hexdigest()
