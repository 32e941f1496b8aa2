"""Batch and layer normalisation with torch's names, momentum and running variance."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxdl.typing import Array


class BatchNorm(nnx.Module):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for every channel, the last axis.

    In training ``mean`` and the biased ``var`` are those of the batch, over all axes but the last, and the running
    statistics follow: ``running = (1 - momentum) * running + momentum * batch``, the variance unbiased there.
    ``nnx.view(model, use_running_average=True)`` normalises with the running statistics.

    Args:
      features: the number of channels.
      eps: added to the variance.
      momentum: the weight of the newest batch, as in torch (flax counts the other way round).
      use_running_average: evaluate rather than train.
      axis_name: the axis over which devices hold equal shares of the batch, as torch's SyncBatchNorm. Under jit
        the batch is whole however many devices there are, and nothing is to be named.

    Source: Ioffe and Szegedy 2015, https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
    """

    def __init__(
        self,
        features: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        use_running_average: bool = False,
        axis_name: str | None = None,
    ) -> None:
        self.weight = nnx.Param(jnp.ones((features,)))
        self.bias = nnx.Param(jnp.zeros((features,)))
        self.running_mean = nnx.BatchStat(jnp.zeros((features,)))
        self.running_var = nnx.BatchStat(jnp.ones((features,)))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.eps, self.momentum, self.use_running_average = eps, momentum, use_running_average
        self.axis_name = axis_name

    def __call__(self, x: Array) -> Array:
        """Normalises ``x`` (..., features); the result has its dtype.

        Raises:
          ValueError: another number of channels, or in training one value per channel.
        """
        mean, var = self.running_mean[...], self.running_var[...]
        if x.shape[-1:] != mean.shape:
            raise ValueError(f"expected {mean.size} channels in the last axis, got shape {x.shape}")
        # The running statistics keep their dtype when a step computes in bfloat16, too coarse for a batch's sums.
        wide, weight, bias = (value.astype(mean.dtype) for value in (x, self.weight[...], self.bias[...]))
        if not self.use_running_average:
            mean, var = self._track(wide)
        shape = (1,) * (x.ndim - 1) + mean.shape
        scale = (weight * lax.rsqrt(var + self.eps)).reshape(shape)
        return ((wide - mean.reshape(shape)) * scale + bias.reshape(shape)).astype(x.dtype)

    def set_view(self, use_running_average: bool | None = None, axis_name: str | None = None) -> None:
        """What `nnx.view` calls."""
        if use_running_average is not None:
            self.use_running_average = use_running_average
        if axis_name is not None:
            self.axis_name = axis_name

    def _track(self, x: Array) -> tuple[Array, Array]:
        """The mean and biased variance of the batch, which the running statistics follow."""
        count = math.prod(x.shape[:-1]) * (lax.axis_size(self.axis_name) if self.axis_name else 1)
        if count < 2:
            raise ValueError(f"expected more than one value per channel in training, got shape {x.shape}")
        axes = tuple(range(x.ndim - 1))
        mean = self._over_devices(x.mean(axes, keepdims=True))
        var = self._over_devices(jnp.square(x - mean).mean(axes))
        mean = mean.reshape(-1)
        self._follow(self.running_mean, mean)
        self._follow(self.running_var, var * (count / (count - 1)))
        self.num_batches_tracked[...] += 1
        return mean, var

    def _over_devices(self, mean: Array) -> Array:
        return lax.pmean(mean, self.axis_name) if self.axis_name else mean

    def _follow(self, running: nnx.BatchStat[Array], batch: Array) -> None:
        running[...] = (1 - self.momentum) * running[...] + self.momentum * lax.stop_gradient(batch)


class LayerNorm(nnx.Module):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` with the mean and biased ``var`` of each last axis.

    Args:
      features: the size of the last axis.
      eps: added to the variance.

    Source: Ba et al. 2016, https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html
    """

    def __init__(self, features: int, *, eps: float = 1e-5) -> None:
        self.weight = nnx.Param(jnp.ones((features,)))
        self.bias = nnx.Param(jnp.zeros((features,)))
        self.eps = eps

    def __call__(self, x: Array) -> Array:
        """Normalises ``x`` (..., features), in float32 at least; the result has its dtype.

        Raises:
          ValueError: another number of features.
        """
        if x.shape[-1:] != self.weight.shape:
            raise ValueError(f"expected {self.weight.size} features in the last axis, got shape {x.shape}")
        dtype, shape = np.promote_types(x.dtype, np.float32), (1,) * (x.ndim - 1) + self.weight.shape
        wide, weight, bias = (value.astype(dtype) for value in (x, self.weight[...], self.bias[...]))
        y = _layer_norm(wide, weight.reshape(shape), bias.reshape(shape), self.eps)
        return y.astype(x.dtype)


@jax.checkpoint  # keeps its input for the gradient, where autodiff keeps three arrays of its size
def _layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps) * weight + bias
