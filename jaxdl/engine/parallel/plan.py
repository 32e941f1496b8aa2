"""What the options say of devices, as the parts that a run is made of."""

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
from flax import nnx
from jax.sharding import Mesh

from jaxdl.config import ScaleOptions
from jaxdl.data.loader import Loader
from jaxdl.engine.parallel.devices import AXIS, first_devices, make_mesh, of_first_process, replicate, shard
from jaxdl.engine.parallel.gradient import over_devices, per_device, synchronised
from jaxdl.engine.parallel.pipeline import pipeline
from jaxdl.engine.parallel.programs import Run, Take, pmap_chunk, train_chunk
from jaxdl.engine.parallel.tensor import split_layers
from jaxdl.engine.state import TrainState
from jaxdl.engine.step import Differentiate, Gradient, Step, of_whole

Make = Callable[[nnx.GraphDef, Differentiate], Gradient]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the batches of a run are split, by jit or by pmap, and how its model is.

    Attributes:
      options: what is asked for.
      mesh: the devices.
    """

    options: ScaleOptions
    mesh: Mesh

    def birthplace(self) -> AbstractContextManager[object]:
        """Where initial weights are made: in the host's memory if no device may have to hold all of them."""
        with contextlib.suppress(RuntimeError):  # the user has told JAX to leave the CPU alone
            if self.options.fsdp:
                return jax.default_device(jax.local_devices(backend="cpu")[0])
        return contextlib.nullcontext()

    def place(self, state: TrainState) -> TrainState:
        """The first state on the devices, that of the first process."""
        state = of_first_process(self.mesh, state)
        whole = shard if self.options.fsdp else split_layers if self.options.tensor > 1 else replicate
        rest = dataclasses.replace(state, params={}, opt_state=())
        params, opt_state = whole(self.mesh, (state.params, state.opt_state))
        return dataclasses.replace(replicate(self.mesh, rest), params=params, opt_state=opt_state)

    def gradient(self, make: Make, graph: nnx.GraphDef, state: TrainState) -> Gradient:
        """The gradient of a batch for a step that `train_chunk` takes.

        Args:
          make: the gradient by the structure of the model, and how it is taken.
          graph: the structure, of a model that is by itself.
          state: the run's first.
        """
        options, together = self.options, self.options.sync_batchnorm or not state.stats
        if options.parallel == "pmap":
            return per_device(make(synchronised(graph, state) if options.sync_batchnorm else graph, of_whole))
        if options.stages > 1:
            return make(graph, pipeline(self.mesh, options.micro_batches, options.cut_at))
        whole = make(graph, of_whole)
        return whole if together else over_devices(whole, self.mesh)

    def train_chunk(self, step: Step, take: Take) -> Run:
        """Many steps as one program, see `jaxdl.engine.parallel.programs`."""
        return {"jit": train_chunk, "pmap": pmap_chunk}[self.options.parallel](step, take, self.mesh)

    def check(self, loader: Loader, state: TrainState) -> None:
        """
        Raises:
          ValueError: options that do not fit each other, the model or the batches.
        """
        options, devices = self.options, self.mesh.shape[AXIS]
        _check_split(options, loader)
        if options.fsdp and options.parallel == "pmap":
            raise ValueError("--fsdp needs --parallel jit: with pmap every device holds all parameters")
        if options.parallel == "pmap" and self.mesh.is_multi_process:
            raise ValueError("several processes need --parallel jit: pmap is for the devices of one")
        if (options.stages > 1 or options.tensor > 1) and not options.sync_batchnorm:
            raise ValueError("--no-sync-batchnorm is for devices that each hold the whole model")
        if not options.sync_batchnorm and not state.stats:
            raise ValueError("--no-sync-batchnorm has no meaning for a model without BatchNorm")
        uneven = [size for size in loader.sizes if size % devices]
        if not uneven:
            return
        batches = f"{devices} devices do not divide a batch of {uneven[0]} examples"
        if options.stages > 1:
            raise ValueError(f"{batches}, as --stages needs; choose another --batch-size or --drop-last")
        if options.uneven == "error":
            raise ValueError(f"{batches}; choose another --batch-size, --drop-last or --uneven pad")
        if options.parallel == "pmap" and options.sync_batchnorm and state.stats:
            raise ValueError(
                f"{batches}, which BatchNorm synchronised by pmap needs; choose another --batch-size, "
                "--drop-last, --no-sync-batchnorm or --parallel jit"
            )


def make_plan(options: ScaleOptions) -> Plan:
    """The plan on the devices there are.

    Raises:
      ValueError: there are fewer than asked for.
    """
    devices, parts = first_devices(options.devices), max(options.stages, options.tensor)
    if min(options.stages, options.tensor) < 1 or len(devices) % parts:
        name = "--tensor" if options.tensor > 1 else "--stages"
        raise ValueError(f"{name} {parts} does not divide the number of devices, {len(devices)}; see --devices")
    return Plan(options, make_mesh(devices, parts))


def _check_split(options: ScaleOptions, loader: Loader) -> None:
    """
    Raises:
      ValueError: options of pipelines and split layers that do not fit each other or the batches.
    """
    stages, micro_batches = options.stages, options.micro_batches
    if stages == 1 and (micro_batches is not None or options.cut_at):
        raise ValueError("--micro-batches and --cut-at are for a pipeline: give --stages, and --devices for them")
    if options.cut_at and len(options.cut_at) != stages - 1:
        raise ValueError(f"--cut-at wants the first layers of {stages - 1} stages; got {len(options.cut_at)}")
    if stages > 1 and options.tensor > 1:
        raise ValueError("--stages and --tensor split a model in two ways; give one of them")
    if options.tensor > 1 and options.fsdp:
        raise ValueError("--tensor splits parameters already, by layer; give it or --fsdp")
    if max(stages, options.tensor) > 1 and options.parallel == "pmap":
        raise ValueError("--stages and --tensor need --parallel jit: with pmap every device holds the whole model")
    if micro_batches is not None and (micro_batches < 1 or loader.batch_size % micro_batches):
        raise ValueError(f"--micro-batches must divide a batch of {loader.batch_size}; got {micro_batches}")
