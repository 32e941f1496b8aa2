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
from jaxdl.engine.parallel.devices import first_devices, make_mesh, of_first_process, replicate, shard
from jaxdl.engine.parallel.gradient import over_devices, per_device, synchronised
from jaxdl.engine.parallel.programs import Run, Take, pmap_chunk, train_chunk
from jaxdl.engine.state import TrainState
from jaxdl.engine.step import Gradient, Step


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the batches of a run are split, by jit or by pmap.

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
        whole = replicate if not self.options.fsdp else shard
        rest = dataclasses.replace(state, params={}, opt_state=())
        params, opt_state = whole(self.mesh, (state.params, state.opt_state))
        return dataclasses.replace(replicate(self.mesh, rest), params=params, opt_state=opt_state)

    def gradient(
        self, make: Callable[[nnx.GraphDef], Gradient], graph: nnx.GraphDef, state: TrainState
    ) -> Gradient:
        """The gradient of a batch for a step that `train_chunk` takes.

        Args:
          make: the gradient by the structure of the model.
          graph: the structure, of a model that is by itself.
          state: the run's first.
        """
        together = self.options.sync_batchnorm or not state.stats
        if self.options.parallel == "pmap":
            return per_device(make(synchronised(graph, state) if self.options.sync_batchnorm else graph))
        return make(graph) if together else over_devices(make(graph), self.mesh)

    def train_chunk(self, step: Step, take: Take) -> Run:
        """Many steps as one program, see `jaxdl.engine.parallel.programs`."""
        return {"jit": train_chunk, "pmap": pmap_chunk}[self.options.parallel](step, take, self.mesh)

    def check(self, loader: Loader, state: TrainState) -> None:
        """
        Raises:
          ValueError: options that do not fit each other, the model or the batches.
        """
        options, devices = self.options, self.mesh.size
        if options.fsdp and options.parallel == "pmap":
            raise ValueError("--fsdp needs --parallel jit: with pmap every device holds all parameters")
        if options.parallel == "pmap" and self.mesh.is_multi_process:
            raise ValueError("several processes need --parallel jit: pmap is for the devices of one")
        if not options.sync_batchnorm and not state.stats:
            raise ValueError("--no-sync-batchnorm has no meaning for a model without BatchNorm")
        uneven = [size for size in loader.sizes if size % devices]
        if not uneven:
            return
        batches = f"{devices} devices do not divide a batch of {uneven[0]} examples"
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
    return Plan(options, make_mesh(first_devices(options.devices)))
