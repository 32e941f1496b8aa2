"""Trains one DCGAN after another, by one program."""

import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdl import files
from jaxdl.data.loader import Loader
from jaxdl.data.sources import Source
from jaxdl.engine import ownstep, parallel, weights
from jaxdl.engine.log import Record
from jaxdl.engine.loop import Hook, Late
from jaxdl.engine.run_folder import RunFolder
from jaxdl.engine.state import TrainState
from jaxdl.gan.judge import Judge
from jaxdl.gan.options import GanOptions
from jaxdl.methods import gan
from jaxdl.models.dcgan import Discriminator, Generator
from jaxdl.optim.optimizers import adam
from jaxdl.typing import Array

CHUNK_STEPS = 25  # in one compiled program
RECORD_STEPS = 50
TIMES = 8  # at which the samples are kept
SAMPLES = 100
BATCH = 500  # images that are made at once for the judgement


class Trainer:
    """Makes and trains generators.

    Args:
      options: checked ones.
      source: the data set.

    Raises:
      ValueError: images that a DCGAN cannot make, or a batch that is larger than the data.
    """

    def __init__(self, options: GanOptions, source: Source) -> None:
        self.options, self.source = options, source
        self.tx = adam(options.lr, options.betas)
        self.mesh = parallel.make_mesh(parallel.first_devices(1))
        generator, _, graphs, _ = self.start(0)
        step = gan.train_step(graphs, self.tx, options.latent)
        self.images = {"image": source.train["image"]}
        loader = self.loader(0)
        self.program = parallel.train_chunk(step, loader.take, self.mesh)
        self.arrays = parallel.replicate(self.mesh, loader.resident_arrays)
        evaluated = nnx.graphdef(nnx.view(generator, use_running_average=True))
        self.generate = jax.jit(functools.partial(gan.generate, evaluated))

    def train(self, seed: int, folder: RunFolder, judge: Judge | None, *, quiet: bool) -> dict[str, Any]:
        """Trains with this seed, leaves weights and samples in the folder and returns what was reached."""
        started = time.perf_counter()
        generator, discriminator, _, first = self.start(seed)
        samples = folder.path / "samples"
        samples.mkdir(exist_ok=True)
        loader = self.loader(seed)
        own = ownstep.Own(
            state=parallel.replicate(self.mesh, first),
            run=lambda state, items: self.program(state, self.arrays, items),
            chunks=lambda first, last: loader.chunks(first, last, CHUNK_STEPS),
            steps=self.options.steps,
            every=RECORD_STEPS,
            shown=lambda record: _shown(record, seed, self.options.steps),
            hooks=[Samples(self, samples, seed)],
        )
        state = ownstep.train(own, folder, quiet=quiet)
        trained = jax.device_get(state)
        for name, net in ((gan.GENERATOR, generator), (gan.DISCRIMINATOR, discriminator)):
            weights.save(folder.path / f"{name}.safetensors", net, trained.params[name], trained.stats[name])
        seconds = time.perf_counter() - started
        quality = judge.of(self.made(state, seed)) if judge else {}
        return {"seed": seed, "steps": self.options.steps, "seconds": seconds, **quality}

    def start(self, seed: int) -> tuple[Generator, Discriminator, Any, TrainState]:
        """Both networks, their structures and the state of the first step."""
        make_key, tell_key, run_key = jax.random.split(jax.random.key(seed), 3)
        shape, given = self.source.image_shape, self.options
        generator = Generator(shape, latent=given.latent, width=given.width, rngs=nnx.Rngs(params=make_key))
        discriminator = Discriminator(shape, width=given.width, rngs=nnx.Rngs(params=tell_key))
        return generator, discriminator, *gan.create(generator, discriminator, self.tx, run_key)

    def loader(self, seed: int) -> Loader:
        """The batches of a training."""
        return Loader(self.images, self.options.batch_size, seed=seed, drop_last=True)

    def samples(self, state: TrainState, seed: int) -> Array:
        """Images of the same noise, whatever the state."""
        return self.generate(state, gan.draw(jax.random.key(seed + 1), SAMPLES, self.options.latent))

    def made(self, state: TrainState, seed: int) -> np.ndarray:
        """The images that are judged."""
        noise = gan.draw(jax.random.key(seed + 2), -(-self.options.judged // BATCH) * BATCH, self.options.latent)
        parts = [np.asarray(self.generate(state, part)) for part in noise.reshape(-1, BATCH, noise.shape[1])]
        return np.concatenate(parts)[: self.options.judged]


class Samples(Hook):
    """Keeps what a generator makes of the same noise, some times in a training, as ``samples/STEP.npy``."""

    def __init__(self, trainer: Trainer, folder: Path, seed: int) -> None:
        self.trainer, self.folder, self.seed = trainer, folder, seed
        self.last = trainer.options.steps
        chunks = max(self.last // CHUNK_STEPS // TIMES, 1)
        self.every, self.kept = chunks * CHUNK_STEPS, 0

    def due(self, step: int) -> bool:
        # The first time early: that is when most of the learning happens.
        # Chunks begin anew with each epoch, so a step need not be a multiple.
        return step == CHUNK_STEPS or step // self.every > self.kept // self.every or step == self.last

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        self.kept = step
        late.push(self.trainer.samples(state, self.seed), lambda images: self._write(step, images))

    def _write(self, step: int, images: np.ndarray) -> None:
        path = self.folder / f"{step:06}.npy"

        def save(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.save(file, images)

        files.write_atomic(path, save)


def _shown(record: Record, seed: int, steps: int) -> str:
    """The line of a record; empty for most."""
    if record["step"] % (4 * RECORD_STEPS) and record["step"] != steps:
        return ""
    return (
        f"Seed {seed}, step [{record['step']}/{steps}], loss of generator {record['generator_loss']:.3f}, of "
        f"discriminator {record['discriminator_loss']:.3f}; real images are real to it by {record['real']:.0%}, "
        f"made ones by {record['fake']:.0%}"
    )
