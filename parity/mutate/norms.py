"""Norms: settings that a port leaves at another default, and statistics that it keeps in another way."""

from collections.abc import Iterator
from typing import Any

from parity.mutate.faults import Fault, Planted, Right, registry
from parity.mutate.parts import attribute, changed, has_statistics, wrapped

FAULTS: list[Fault] = []
fault = registry(FAULTS)


@fault("norm eps", "the eps of a norm is another")
def _eps(given: Right) -> Iterator[Planted]:
    return changed(given, attribute(("epsilon", "eps"), lambda eps: 1e-6 if eps > 5e-6 else 1e-5))


@fault("fast variance", "a norm computes its variance as E[x^2] - E[x]^2")
def _fast(given: Right) -> Iterator[Planted]:
    return changed(
        given, attribute(("use_fast_variance",), lambda fast: True if fast is False else None), ("variance",)
    )


@fault("BatchNorm momentum", "momentum counts the other way round")
def _momentum(given: Right) -> Iterator[Planted]:
    return changed(given, attribute(("momentum",), lambda momentum: 1 - momentum, has_statistics), ("buffers",))


@fault("BatchNorm momentum default", "momentum is the default of Flax, 0.99")
def _momentum_default(given: Right) -> Iterator[Planted]:
    def change(part: Any) -> bool:
        # jaxdl counts as torch does.
        default = 0.99 if type(part).__module__.startswith("flax") else 0.01
        return attribute(("momentum",), lambda _: default, has_statistics)(part)

    return changed(given, change, ("buffers",))


@fault("biased running variance", "the running variance is not multiplied by n/(n-1)")
def _biased(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        before = self.running_var[...]
        y = original(x, *rest, **more)
        count = x.size // x.shape[-1]
        moved = self.running_var[...] - (1 - self.momentum) * before
        if not self.use_running_average:
            self.running_var[...] = (1 - self.momentum) * before + moved * ((count - 1) / count)
        return y

    return wrapped(given, lambda part: hasattr(part, "running_var"), call, ("buffers",))


@fault("evaluation with batch statistics", "BatchNorm normalises with the batch in evaluation too")
def _eval_batch(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, *args: Any, **more: Any) -> Any:
        self.use_running_average = False
        return original(*args, **more)

    return wrapped(given, _is_batch_norm, call)


@fault("training with running statistics", "BatchNorm normalises with the running statistics in training too")
def _train_running(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, *args: Any, **more: Any) -> Any:
        self.use_running_average = True
        return original(*args, **more)

    return wrapped(given, _is_batch_norm, call, ("layer", "glue", "buffers"))


def _is_batch_norm(part: Any) -> bool:
    return hasattr(part, "use_running_average")
