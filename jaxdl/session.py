"""One run, from its first step or its last checkpoint to the files at its end."""

import contextlib
import functools
import math
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdl import files, tree
from jaxdl.build import Job
from jaxdl.config import TrainConfig, to_dict
from jaxdl.data.sources import Source
from jaxdl.engine import parallel, plots, processes, weights
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.engine.hooks import Evaluate, Inspect, InterruptedRunError, Log, NonFiniteError, Save, Signals
from jaxdl.engine.log import Console, JsonLines, Logger, read_records
from jaxdl.engine.loop import Hook, fit
from jaxdl.engine.run_folder import RunPaths
from jaxdl.engine.state import TrainState
from jaxdl.engine.stopping import EarlyStop, SaveBest
from jaxdl.engine.tensorboard import TensorBoard

SAMPLES = 25  # test images shown with their predictions
PAUSE = 10.0  # seconds between checkpoints, and between histograms, unless asked otherwise


class Session:
    """Trains to the end of a run and writes what it leaves behind.

    Args:
      config, source, job: the run.
      folder: where it goes; its last checkpoint is where it starts. Of several processes the first writes it, all
        but the checkpoints, which they write together.
      notice: a line for the user.
    """

    def __init__(
        self, config: TrainConfig, source: Source, job: Job, folder: RunPaths, notice: str | None
    ) -> None:
        self.config, self.source, self.job, self.folder = config, source, job, folder
        self.checkpoints = Checkpoints(folder.checkpoints, config.run.keep)
        notices = [notice] if notice else []
        restored = self.checkpoints.restore(job.state, notices.append) if config.run.resume else None
        self.state, self.notes = restored or (job.state, None)
        self.first = int(self.state.step)
        epochs = math.ceil(job.steps / job.loader.steps_per_epoch)
        self.console = Console(
            job.steps,
            job.loader.steps_per_epoch,
            epochs,
            first_step=self.first,
            quiet=config.run.quiet or not processes.is_first(),
        )
        for line in [*notices, *self._heading()]:
            self.console.message(line)

    def run(self) -> int:
        """Returns the exit status: 0 complete, 1 failed, 128 + the signal that stopped it."""
        try:
            summary = self._run()
        except InterruptedRunError as stop:
            again = f"go on with --out {self.folder.path} --resume"
            _say(f"{stop}, which is saved; {again}")
            return 128 + stop.signal
        except NonFiniteError as error:
            steps = self.checkpoints.steps()
            last = (
                f"the last good checkpoint is that of step {steps[-1]}" if steps else "there is no checkpoint yet"
            )
            _say(f"error: {error}; {last}; try a smaller --lr, or --clip-norm")
            return 1
        except OSError as error:
            print(f"error: cannot write to {self.folder.path}: {error}", file=sys.stderr)
            return 1
        count, accuracy = len(self.source.test["label"]), summary["accuracy"]
        if processes.is_first():
            print(f"Accuracy of the network on the {count} test images: {accuracy:.2%}")
        return 0

    def _heading(self) -> list[str]:
        job, train, test = self.job, self.job.loader.examples, len(self.source.test["label"])
        held_out = f", {job.validation.examples} held out" if job.validation else ""
        kind = self.job.mesh.devices.flat[0].device_kind
        start = f"from step {self.first} " if self.first else ""
        return [
            f"{self.source.name}: {train} training and {test} test images{held_out} ({self.source.origin})",
            f"{self.config.model.model}: {tree.size(job.state.params)} parameters, on {job.mesh.size} x {kind}",
            f"{job.steps} steps {start}-> {self.folder.path}",
        ]

    def _run(self) -> dict[str, Any]:
        job, run = self.job, self.config.run
        with contextlib.ExitStack() as stack:
            stack.callback(self.checkpoints.close)
            loggers = self._loggers(stack)
            signals = stack.enter_context(Signals())
            per_epoch, last = job.loader.steps_per_epoch, job.steps
            log = Log(loggers, self.console.progress, every=run.log_every, steps_per_epoch=per_epoch)
            evaluate = Evaluate(
                parallel.evaluator(job.eval_step, job.tests, job.mesh),
                loggers,
                steps_per_epoch=per_epoch,
                last_step=last,
            )
            stop = self._early_stop(evaluate, loggers)
            save = (functools.partial(SaveBest, stop) if stop else Save)(
                self.checkpoints,
                log,
                evaluate,
                signals,
                every=run.save_every or per_epoch,
                last_step=last,
                pause=0.0 if run.save_every else PAUSE,
            )
            if self.notes:
                save.recall(self.notes)
            boards = [board for board in loggers if isinstance(board, TensorBoard)]
            inspect = [] if processes.several() and self.config.scale.fsdp else map(self._inspect, boards)
            hooks = [log, evaluate, *([stop] if stop else []), *inspect, save]
            started = time.perf_counter()
            train = job.plan.train_chunk(job.train_step, job.loader.take)
            arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)
            columns = parallel.columns(job.mesh)
            chunks = job.loader.chunks(self.first, last, job.chunk_steps, run.save_every, columns)
            chunks = stop.until_done(chunks) if stop else chunks
            state = fit(self.state, lambda state, items: train(state, arrays, items), chunks, hooks)
            seconds = time.perf_counter() - started
            taken, tested = int(state.step), evaluate.last
            if stop:
                state, tested = self.checkpoints.read(stop.best["step"], state), stop.best["test"]
                self.console.message(stop.verdict(taken))
            return self._finish(state, evaluate.best, tested, boards, taken, seconds)

    def _loggers(self, stack: contextlib.ExitStack) -> list[Logger]:
        if not processes.is_first():
            return []
        resume_step = self.first if self.config.run.resume else None
        loggers: list[Logger] = [self.console, JsonLines(self.folder.metrics, resume_step)]
        if self.config.run.tensorboard:
            board = TensorBoard(self.folder.tensorboard, resume_step)
            loggers.append(board)
            board.structure(self.job.model, jnp.zeros((1, *self.job.seen.shape), jnp.float32))
        for logger in loggers:
            stack.callback(logger.close)
        return loggers

    def _early_stop(self, evaluate: Evaluate, loggers: list[Logger]) -> EarlyStop | None:
        job, patience = self.job, self.config.run.early_stop
        if job.validation is None or patience is None:
            return None
        measure = parallel.evaluator(job.eval_step, job.validation, job.mesh)
        per_epoch = job.loader.steps_per_epoch
        return EarlyStop(
            measure, evaluate, loggers, patience=patience, steps_per_epoch=per_epoch, last_step=job.steps
        )

    def _inspect(self, board: TensorBoard) -> Hook:
        job, tests = self.job, self.source.test
        rows = job.loader.rows(0)
        batch = {name: np.asarray(values[rows]) for name, values in job.loader.split.items()}
        images, labels = (
            np.asarray(tests[name][np.arange(min(SAMPLES, len(tests["label"])))]) for name in ("image", "label")
        )
        gradients, predict = jax.jit(job.gradients), jax.jit(job.predict_step)
        own = parallel.local if processes.several() else lambda state: state
        return Inspect(
            board,
            lambda state: gradients(own(state), batch)[0],
            lambda state: predict(own(state), {"image": images}).argmax(-1),
            images,
            labels,
            self.source.classes,
            steps_per_epoch=job.loader.steps_per_epoch,
            last_step=job.steps,
            pause=PAUSE,
        )

    def _finish(
        self,
        state: TrainState,
        best: dict[str, Any],
        tested: dict[str, Any],
        boards: list[TensorBoard],
        taken: int,
        seconds: float,
    ) -> dict[str, Any]:
        """Writes the weights, the plots and the summary, and returns the summary."""
        job, folder = self.job, self.folder
        params, stats = job.deploy(parallel.to_host((state.params, state.stats)))
        predicted = parallel.evaluator(job.predict_step, job.tests, job.mesh)(state)
        if not processes.is_first():
            return tested
        weights.save(folder.weights, job.model, params, stats)
        confusion = confusion_counts(self.source.test["label"], predicted, len(self.source.classes))
        plots.training_curves(read_records(folder.metrics), folder.curves)
        plots.confusion_matrix(confusion, self.source.classes, folder.confusion)
        summary = {
            "accuracy": tested["accuracy"],
            "loss": tested["loss"],
            "best_accuracy": best["accuracy"],
            "best_step": best["step"],
            "steps": taken,
            "weights_of_step": tested["step"],  # an earlier one where training stopped early
            "parameters": tree.size(params),
            "seconds": seconds,  # of the steps that this process took, evaluation and compilation included
            "steps_per_second": (taken - self.first) / seconds,
            "device": job.mesh.devices.flat[0].device_kind,
        }
        files.write_json(folder.summary, summary)
        options = {
            name: value
            for name, value in to_dict(self.config).items()
            if isinstance(value, bool | int | float | str)
        }
        for board in boards:
            board.hparams(options, {name: summary[name] for name in ("accuracy", "loss")})
        return summary


def _say(line: str) -> None:
    """What all processes have come to at the same step is told once."""
    if processes.is_first():
        print(line, file=sys.stderr)


def confusion_counts(labels: np.ndarray, probabilities: list[Any], classes: int) -> np.ndarray:
    """How often each class (row) was taken for each (column), from probabilities in batches of batches."""
    predicted = np.concatenate([np.asarray(part).reshape(-1, classes).argmax(-1) for part in probabilities])
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts
