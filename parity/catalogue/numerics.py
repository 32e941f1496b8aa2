"""Types, precision and noise."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.data.loader import Loader
from parity.catalogue.entry import Facts, Skip, Status, entry
from parity.catalogue.facts import agrees, array, differs, raises, states
from parity.catalogue.sides import BLANK, normal, together
from parity.verdict import STRUCTURAL_ZERO


@entry(
    46,
    "Types",
    Status.OPTIONS,
    torch="float64 and int64 are there; a sum of int32 is int64; dividing an integer by 0 raises; "
    "a float out of range wraps when it becomes an integer",
    jax="float64 and int64 become float32 and int32 until x64 is on; a sum of int32 stays int32 and overflows; "
    "dividing by 0 gives some number; a float out of range takes the nearest integer, NaN 0; lax.div truncates",
    instead="""
    jax.config.update("jax_enable_x64", True)  # or: with jax.enable_x64(True)
    x.astype(float) where sums are large; // and % in place of jax.lax.div and rem
    """,
)
def types() -> Facts:
    large, odd = np.array([2**31 - 1, 1], np.int32), np.array([np.nan, np.inf, -1.0])
    a, b = np.array([7, -7, 7, -7]), np.array([2, 2, -2, -2])
    with jax.enable_x64(False):
        yield states("float64 becomes float32", jnp.asarray(np.ones(1)).dtype == jnp.float32)
        yield states("int64 becomes int32", jnp.asarray(np.ones(1, np.int64)).dtype == jnp.int32)
        overflown = np.asarray(jnp.sum(jnp.asarray(large)))

    def ports(large: Any, odd: Any, a: Any, b: Any) -> Any:
        cast = odd[0].astype(jnp.int32), odd[1].astype(jnp.int32), odd[2].astype(jnp.uint8)
        return jnp.sum(large), cast, (jax.lax.div(a, b), a // b), (jax.lax.rem(a, b), a % b), a[0] // (b[0] - 2)

    summed, cast, quotients, rests, nothing = together(ports, large, odd, a, b)
    yield differs("sum of int32", torch.tensor(large).sum(), overflown, summed, least=2**31)
    names = ("NaN to int32", torch.int32), ("inf to int32", torch.int32), ("-1.0 to uint8", torch.uint8)
    for (name, kind), number, made in zip(names, odd, cast, strict=True):
        yield differs(name, torch.tensor([number]).to(kind)[0], made, least=1)
    yield states("torch: 7 // 0 raises", raises(lambda: torch.tensor(7) // torch.tensor(0), RuntimeError))
    yield states(f"JAX: 7 // 0 gives {nothing}", np.isfinite(nothing))
    t, u = torch.tensor(a), torch.tensor(b)
    yield differs("7 // 2 with all signs, or lax.div", t // u, *quotients, least=1)
    yield differs("7 % 2 with all signs, or lax.rem", t % u, *rests, least=1)


@entry(
    47,
    "float32 on a GPU",
    Status.GPU,
    torch="matrix products in full float32; cuDNN's convolutions in TF32",
    jax="both in TF32 on an A100 or H100 by default (bfloat16 on a TPU)",
    instead="""
    with jax.default_matmul_precision("highest"): ...  # what parity proves with
    torch.backends.cudnn.allow_tf32 = False
    """,
)
def tensor_cores() -> Facts:
    yield states("torch's switch for matrix products is off", not torch.backends.cuda.matmul.allow_tf32)
    yield states("torch's switch for cuDNN is on", torch.backends.cudnn.allow_tf32)
    gpu = _gpu()
    a, b = normal(256, 256).astype(np.float32), normal(256, 256, seed=1).astype(np.float32)
    exact = a.astype(np.float64) @ b
    made = []
    for precision in ("default", "highest"):
        with jax.default_device(gpu), jax.default_matmul_precision(precision):
            made.append(jnp.asarray(a) @ jnp.asarray(b))
    yield differs("a matrix product of 256, from float64", exact, *made, least=1e-3, most=1e-4)


@entry(
    48,
    "float32 on the CPU: the order of sums",
    Status.SAME,
    torch="adds in an order of its own: 1e-4 from float64 in a product over 4096",
    jax="adds in another: as far from torch as torch is from the truth",
    instead="compare in float64: parity.prove; in float32 ask for no more than torch's own error: parity.measure",
)
def order_of_sums() -> Facts:
    a, b = normal(16, 4096).astype(np.float32), normal(4096, 16, seed=1).astype(np.float32)
    exact = a.astype(np.float64) @ b
    theirs, port = torch.tensor(a) @ torch.tensor(b), jnp.asarray(a) @ jnp.asarray(b)
    wide = jnp.asarray(a, float) @ jnp.asarray(b, float)
    yield differs(
        "torch and JAX; in float64 torch and JAX", array(theirs) - exact, array(port) - exact, least=1e-6
    )
    yield differs("torch, from float64", exact, theirs, least=1e-6)
    yield agrees("JAX, from float64", exact, port, most=1e-3)
    yield agrees("both in float64", torch.tensor(a).double() @ torch.tensor(b).double(), wide, most=1e-10)


@entry(
    49,
    "Gradients that are zero by structure",
    Status.CURED,
    torch="a bias in front of BatchNorm and the key bias of attention have no effect: their gradient is rounding, "
    "which Adam turns into steps at the full rate",
    jax="the same, with other rounding: after a step the biases are apart and the outputs equal",
    instead="""
    # a class of its own, ABSTAIN, never a looser tolerance: parity.verdict finds such leaves by size,
    # and parity dump --hold keeps them still
    """,
)
def structural_zeros() -> Facts:
    x, weight = normal(32, 5), normal(5, 4, seed=1)
    theirs = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.Adam([theirs], lr=1.0)
    torch_loss(torch.tensor(x).float(), torch.tensor(weight).float(), theirs).backward()
    noise = array(theirs.grad)
    slope = functools.partial(together, jax.grad(jax_loss, 2))
    port = slope(x.astype(np.float32), weight.astype(np.float32), np.zeros(4, np.float32))
    yield agrees("the bias's gradient in float32 is small", np.zeros(4), noise, most=1e-4)
    yield states("and it is noise", noise.any() and not np.array_equal(noise, array(port)))
    optimizer.step()
    size = float(np.abs(array(theirs)).max())
    yield differs("what Adam makes of it, in units of the rate; nothing would be right", 0, size, least=0.5)
    given = torch.tensor(weight, requires_grad=True), torch.zeros(4, dtype=torch.float64, requires_grad=True)
    of_weight, of_bias = torch.autograd.grad(torch_loss(torch.tensor(x), *given), given)
    limit = STRUCTURAL_ZERO * float(of_weight.norm())
    yield states("in float64 it is below what parity calls zero (torch)", of_bias.norm() <= limit)
    port = np.linalg.norm(slope(x, weight, np.zeros(4)))
    yield states("in float64 it is below what parity calls zero (JAX)", port <= limit)
    layer = torch.nn.MultiheadAttention(8, 2, dtype=torch.float64)
    t = torch.tensor(normal(5, 3, 8))
    packed = torch.autograd.grad((layer(t, t, t)[0] * t).sum(), (layer.in_proj_weight, layer.in_proj_bias))
    keys = packed[1].split(8)[1]
    yield states("so is that of the key bias", keys.norm() <= STRUCTURAL_ZERO * packed[0].norm())


@entry(
    50,
    "Order of data, augmentation, casts, cuDNN",
    Status.CURED,
    torch="DataLoader and transforms draw from torch's generator; autocast computes some losses in float32; "
    "cuDNN may add in another order each time (needs a GPU)",
    jax="other random numbers, whatever the seed; a module with dtype=bfloat16 stays in it",
    instead="""
    jaxdl.data.loader.Loader(split, batch_size, seed=seed).rows(step)  # feed torch the same rows
    loss(logits.astype(jnp.float32), labels)                           # where autocast would
    """,
)
def streams() -> Facts:
    generator = torch.Generator().manual_seed(0)
    permuted, drawn = together(
        lambda key: (jax.random.permutation(key, 50), jax.random.uniform(key, (5,))), jax.random.key(0)
    )
    yield differs("order of 50 rows, seed 0", torch.randperm(50, generator=generator), permuted, least=1)
    rows: Any = torch.arange(50.0)
    loader = Loader({"x": rows.numpy()}, 10, seed=0)
    batches = torch.utils.data.DataLoader(rows, batch_sampler=[loader.rows(k).tolist() for k in range(5)])
    fed = np.stack([array(batch) for batch in batches])
    take = functools.partial(loader.take, loader.resident_arrays)
    ours = together(
        jax.vmap(lambda rows: take(rows)["x"]), np.stack([chunk.items[0] for chunk in loader.chunks(0, 5, 1)])
    )
    yield agrees("torch's DataLoader with jaxdl's rows", fed, ours)
    uniform = torch.rand(5, dtype=torch.float64, generator=generator)
    yield differs("uniform numbers, seed 0", uniform, drawn, least=1e-3)
    x, y = torch.tensor(normal(4, 3)).float(), torch.tensor(normal(4, 3, seed=1)).float()
    with torch.autocast("cpu", torch.bfloat16):
        logits = F.linear(x, x[:3])
        loss = F.mse_loss(logits, y)
    layer = nnx.Linear(3, 3, dtype=jnp.bfloat16, **BLANK, rngs=nnx.Rngs(0))
    port = together(lambda x: jnp.mean(layer(x) ** 2), np.ones((4, 3)))
    yield states(
        "autocast: Linear in bfloat16, its mse_loss in float32",
        (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32),
    )
    yield states("JAX: both in bfloat16", port.dtype == jnp.bfloat16)
    raise Skip("that cuDNN's sums vary needs a GPU")


def torch_loss(x: Any, weight: Any, bias: Any) -> torch.Tensor:
    """A linear layer and BatchNorm, with a loss that moves everything but the bias."""
    made = F.batch_norm(x @ weight + bias, None, None, training=True)
    return (made**3).mean()


def jax_loss(x: Any, weight: Any, bias: Any) -> jax.Array:
    """`torch_loss`."""
    made = x @ weight + bias
    made = (made - made.mean(0)) / jnp.sqrt(made.var(0) + 1e-5)
    return (made**3).mean()


def _gpu() -> Any:
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        raise Skip("needs a GPU") from None
