"""From the options of fine-tuning to what they change of a plain run."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl import build, parts, tree
from jaxdl.build import Technique
from jaxdl.config import ModelOptions
from jaxdl.data import resize, subset
from jaxdl.data.sources import Source
from jaxdl.engine.run_folder import read_config
from jaxdl.finetune.options import BODY, FinetuneConfig, FinetuneOptions
from jaxdl.methods.finetune import lora, rates, transfer
from jaxdl.methods.finetune.transfer import Transfer
from jaxdl.optim.transforms import freeze
from jaxdl.pictures import Pictures
from jaxdl.typing import Array, PyTree


def technique(config: FinetuneConfig, source: Source) -> Technique:
    """What the options change of a plain run; prints what becomes of every parameter.

    Raises:
      FileNotFoundError, ValueError: no source, images, labels or patterns that do not fit.
    """
    options, chosen = config.finetune, few_labels(config, source)
    run = pictures_of(options.pretrained)
    seen = functools.partial(brought, run=run, options=options, name=source.name)
    images, key = seen(Pictures.of(chosen, config.data)), jax.random.key(config.run.seed)
    if options.scratch:
        return Technique(data=lambda _: chosen, seen=seen)
    plan = Plan(config, images, run, key)
    per_epoch = steps_per_epoch(config, chosen)
    if not config.run.quiet:
        steps = config.run.steps if config.run.steps is not None else config.run.epochs * per_epoch
        print("\n".join(plan.lines(per_epoch, steps)))
    return Technique(
        data=lambda _: chosen,
        seen=seen,
        model=plan.model,
        objective=lambda plain: lora.objective(plain, plan.scale) if options.lora else plain,
        tx=lambda plain: plan.optimizer(plain, per_epoch),
        deploy=plan.deploy,
    )


def few_labels(config: FinetuneConfig, source: Source) -> Source:
    """The data set with ``--labels`` training images, repeated to an epoch's usual length.

    With early stopping they are not repeated: a copy of what is held out must not be trained on.

    Raises:
      ValueError: fewer labels than classes or more than images, or several numbers.
    """
    labels = config.finetune.labels
    if not labels:
        return source
    count, *others = labels
    if others:
        raise ValueError("several numbers of --labels go with --compare-scratch; give one")
    chosen = subset.labelled(source, count, config.run.seed)
    whole = len(source.train["label"])
    return chosen if config.run.early_stop is not None else subset.repeated(chosen, whole)


def steps_per_epoch(config: FinetuneConfig, source: Source) -> int:
    """How many steps of training make an epoch."""
    if config.run.early_stop is not None:
        source, _ = subset.hold_out(source, config.run.validation, config.run.seed)
    return build.train_loader(config, source).steps_per_epoch


def pictures_of(pretrained: Path | None) -> Pictures | None:
    """What a run knows of its images; a file knows nothing."""
    if pretrained is None or not pretrained.is_dir():
        return None
    return Pictures.from_json(read_config(pretrained)["images"])


def brought(plain: Pictures, run: Pictures | None, options: FinetuneOptions, name: str) -> Pictures:
    """The images as the model takes them: with the shape and the normalization of the source's.

    Raises:
      ValueError: another shape without ``--fit``, numbers of channels that do not fit.
    """
    shape = options.image_shape or (run.shape if run else plain.shape)
    if plain.mean and shape[2] == plain.shape[2]:  # --normalize
        mean, std = plain.mean, plain.std
    else:
        mean, std = (options.mean, options.std) if options.mean else (run.mean, run.std) if run else ((), ())
    if len(mean) != len(std) or len(mean) not in (0, 1, shape[2]):
        raise ValueError(
            f"expected as many numbers in --mean and --std as channels, {shape[2]}; got {mean}, {std}"
        )
    if shape == plain.shape:
        return dataclasses.replace(plain, mean=mean, std=std)
    if options.fit == "no":
        sizes = ["x".join(map(str, size)) for size in (shape, plain.shape)]
        raise ValueError(
            f"the source takes images of {sizes[0]}, those of {name} are {sizes[1]}; "
            "--fit resize scales them, --fit center cuts or pads them"
        )
    resize.fit(shape, options.fit, options.margin)  # its errors belong here
    return dataclasses.replace(plain, shape=shape, mean=mean, std=std, fit=options.fit, margin=options.margin)


def head_of(options: ModelOptions, seen: Pictures) -> set[str]:
    """The parameters of the head: those whose shape depends on the number of classes."""

    def shapes(classes: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        other = dataclasses.replace(seen, classes=classes)
        net = nnx.eval_shape(lambda: parts.model(options, other, jax.random.key(0)))
        return {
            name: leaf.shape for name, leaf in tree.flatten(nnx.to_pure_dict(nnx.state(net, nnx.Param))).items()
        }

    own, more = shapes(seen.classes), shapes((*seen.classes, "one more"))
    return {name for name in own if own[name] != more[name]}


class Plan:
    """What is taken over, what stays, and how fast the rest learns.

    Args:
      config: the options.
      seen: the images as the model takes them.
      run: what the source knew of its images; None: the source is a file.
      key: of the adapters.

    Raises:
      FileNotFoundError, ValueError: the source cannot be used, or a pattern matches nothing.
    """

    def __init__(self, config: FinetuneConfig, seen: Pictures, run: Pictures | None, key: Array) -> None:
        self.options, self.key = config.finetune, key
        self.source = self.options.pretrained or Path()
        self.arrays = transfer.rename(transfer.read(self.source), self.options.rename)
        self.net = parts.model(config.model, seen, key)
        self.head = head_of(config.model, seen)
        self.fresh = self._fresh(run, seen)
        self.result: Transfer = self._take(self.net)
        names = tree.flatten(nnx.to_pure_dict(nnx.state(self._adapted(self.net), nnx.Param)))
        self.order = rates.layers(self.net, jax.ShapeDtypeStruct((1, *seen.shape), jnp.float32))
        self.frozen = self._frozen(list(names))
        self.trained = [name for name in names if name not in self.frozen]
        self.factors = self._factors()
        if not self.trained:
            raise ValueError("nothing is left to train: all parameters are frozen")

    @property
    def scale(self) -> float:
        """What adapters are multiplied with."""
        rank = self.options.lora or 1
        return (self.options.lora_alpha if self.options.lora_alpha is not None else rank) / rank

    def model(self, net: nnx.Module) -> nnx.Module:
        """The model that trains: with the source's weights, and with adapters."""
        self._take(net)
        return self._adapted(net)

    def deploy(self, trained: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        """Parameters and statistics of the plain model: the adapters merged in."""
        params, stats = trained
        return (lora.merged(self.net, params, self.scale) if self.options.lora else params), stats

    def optimizer(self, tx: optax.GradientTransformation, per_epoch: int) -> optax.GradientTransformation:
        """The plain optimizer with stages, rates and frozen parameters."""
        stages = self.stages()
        if self.options.unfreeze_every is not None:
            places = {name: place for place, names in enumerate(stages) for name in names}
            tx = rates.unfreeze_gradually(tx, places, self._stage_steps(per_epoch))
        if any(factor != 1 for factor in self.factors.values()):
            tx = optax.chain(tx, rates.scale_rates(self.factors))
        if not self.frozen:
            return tx
        return freeze(tx, lambda params: tree.map_named(lambda name, _: name in self.frozen, params))

    def stages(self) -> list[list[str]]:
        """The trained parameters layer by layer, from the head backwards."""
        layers = [[name for name in self.trained if lora.weight_of(name) in layer] for layer in self.order]
        return [layer for layer in reversed(layers) if layer]

    def lines(self, per_epoch: int, steps: int) -> list[str]:
        """What becomes of every parameter in so many steps, for the user."""
        result, found = self.result, [f"from {self.source}:"]
        found.append(f"  taken: {', '.join(result.taken)}")
        if result.new:
            found.append(f"  new: {', '.join(f'{name} ({why})' for name, why in result.new.items())}")
        if result.skipped:
            found.append(f"  skipped in the source: {', '.join(result.skipped)}")
        if self.frozen:
            found.append(f"  frozen: {', '.join(sorted(self.frozen))}")
        if self.options.unfreeze_every is not None:
            starts = [place * self._stage_steps(per_epoch) for place in range(len(self.stages()))]
            for start, names in zip(starts, self.stages(), strict=True):
                when = f"trained from step {start}" if start < steps else f"never trained in {steps} steps"
                found.append(f"  {when}: {', '.join(names)}")
        if slow := {name: factor for name, factor in self.factors.items() if factor != 1}:
            found.append(f"  rate times {', '.join(f'{f:.3g} for {name}' for name, f in slow.items())}")
        return found

    def _fresh(self, run: Pictures | None, seen: Pictures) -> dict[str, str]:
        """The parameters that start anew although the source may have them -> why."""
        asked = dict.fromkeys(_matching(self.options.new, "--new", self._own()), "asked for")
        other = run.classes != seen.classes if run else not self._head_fits()
        if self.options.head == "new" or (self.options.head == "auto" and other):
            return dict.fromkeys(self.head, "other classes" if other else "asked for") | asked
        return asked

    def _stage_steps(self, per_epoch: int) -> int:
        return max(round((self.options.unfreeze_every or 0) * per_epoch), 1)

    def _own(self) -> list[str]:
        return list(tree.flatten(nnx.to_pure_dict(nnx.state(self.net, (nnx.Param, nnx.BatchStat)))))

    def _head_fits(self) -> bool:
        theirs = transfer.shapes(self.net)
        return all(name in self.arrays and self.arrays[name].shape == theirs[name] for name in self.head)

    def _take(self, net: nnx.Module) -> Transfer:
        return transfer.transfer(net, self.arrays, take=self.options.take, new=self.fresh)

    def _adapted(self, net: nnx.Module) -> nnx.Module:
        if self.options.lora is None:
            return net
        weights = set(_matching(self.options.lora_layers, "--lora-layers", lora.weights_of(net)))
        return lora.adapted(net, weights - self.head - self.result.new.keys(), self.options.lora, self.key)

    def _frozen(self, names: Sequence[str]) -> set[str]:
        pattern, new = self.options.freeze, self.head | self.result.new.keys()
        body = {name for name in names if name not in new and not lora.is_adapter(name)}
        frozen = body if pattern == BODY else set(_matching(pattern, "--freeze", names))
        return frozen | body if self.options.lora else frozen

    def _factors(self) -> dict[str, float]:
        decayed = rates.decayed_rates(self.order, self.options.layer_decay)
        factors = {name: decayed[lora.weight_of(name)] for name in self.trained}
        for rule in self.options.lr_scale:
            pattern, _, text = rule.rpartition("=")
            if not pattern or not re.fullmatch(r"\d*\.?\d+(e-?\d+)?", text):
                raise ValueError(f"--lr-scale expects PATTERN=FACTOR, got {rule!r}")
            factors |= dict.fromkeys(_matching(pattern, "--lr-scale", self.trained), float(text))
        return factors


def _matching(pattern: str, option: str, names: Sequence[str] | Mapping) -> list[str]:
    """The names that a pattern matches; none without a pattern.

    Raises:
      ValueError: no expression, or it matches none.
    """
    if not pattern:
        return []
    try:
        found = [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
        raise ValueError(f"{option}: {pattern!r} is no regular expression ({error})") from None
    if not found:
        raise ValueError(f"{option}: no parameter matches {pattern!r}; the names are {', '.join(names)}")
    return found
