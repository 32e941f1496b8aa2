"""Compositions that reach a size: which there are, how one is trained and stored, and which is the best."""

import dataclasses
import json
import tempfile
from pathlib import Path

from jaxdl import build, files, inference
from jaxdl.compress.forms import Forms
from jaxdl.compress.options import CompressConfig, CompressOptions
from jaxdl.compress.training import pack, technique_of, with_composition
from jaxdl.config import replace, to_dict
from jaxdl.data import subset
from jaxdl.data.sources import Source
from jaxdl.engine import parallel
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.engine.loop import fit
from jaxdl.engine.run_folder import resumed
from jaxdl.inference import Trained
from jaxdl.methods import compose
from jaxdl.methods.compose import Composition
from jaxdl.train import same_run, train

PACKED = "compressed.safetensors"


@dataclasses.dataclass(frozen=True)
class Tried:
    """A composition that was trained for a while.

    Attributes:
      composition: as text.
      bytes: of its file.
      accuracy: of what is read from the file, on images held out from training, in [0, 1].
    """

    composition: str
    bytes: int
    accuracy: float


def check(config: CompressConfig, trained: Trained, source: Source) -> None:
    """Raises ValueError for options that make no sense here, and for other classes than the run's."""
    options, run = config.compress, config.compress.run
    if config.run.early_stop is not None:
        raise ValueError("--early-stop may go back to weights from before the last pruning; leave it out")
    if source.classes != trained.seen.classes:
        raise ValueError(
            f"{run} knows {len(trained.seen.classes)} classes; {source.name} has {source.num_classes}"
        )
    if config.model != dataclasses.replace(trained.config.model, dropout=config.model.dropout):
        raise ValueError(f"the model is that of {run}; only its --dropout can be changed")
    if not options.around or min(options.around) <= 0 or options.search_epochs < 1:
        raise ValueError("--around expects numbers above 0, and --search-epochs at least 1")
    if not 0 <= options.soft_weight <= 1 or not options.temperature > 0:
        raise ValueError("--soft-weight expects a share from 0 to 1, and --temperature a number above 0")


def search(
    config: CompressConfig, trained: Trained, source: Source, target: int, path: Path
) -> tuple[Composition, list[Tried]]:
    """The composition of at most ``target`` bytes that is best on held-out images, and all that were tried.

    Args:
      config: its options.
      trained: the run.
      source: its data.
      target: bytes.
      path: where it is kept what was tried, and is not tried again.

    Raises:
      ValueError: no composition is so small, with the size of the smallest.
    """
    if config.compress.composition:
        return compose.parse(config.compress.composition), []
    forms = Forms(config, trained)
    sizes = [target, *(int(target * times) for times in config.compress.around if times != 1)]
    candidates = [forms.reaching(size) for size in sizes]
    if not candidates[0]:
        raise ValueError(
            f"--target-size is {target} bytes; the smallest that can be made of this run is {forms.least()} bytes"
        )
    trial = Trial(config, trained, source, path)
    tried = [[trial(composition) for composition in some] for some in candidates]
    best = max(tried[0], key=lambda one: one.accuracy)
    if config.compress.soft_weight:
        softly = dataclasses.replace(compose.parse(best.composition), soft=config.compress.soft_weight)
        tried[0].append(trial(softly))
        best = max(best, tried[0][-1], key=lambda one: one.accuracy)
    return compose.parse(best.composition), [one for some in tried for one in some]


class Trial:
    """Trains a composition for some epochs and measures it on held-out images, unless that was done before.

    Args:
      config, trained, source: as `search`.
      path: where the results are kept.

    Raises:
      ValueError: the results there are of other options.
    """

    def __init__(self, config: CompressConfig, trained: Trained, source: Source, path: Path) -> None:
        run = dataclasses.replace(config.run, epochs=config.compress.search_epochs, steps=None)
        self.config, self.trained, self.path = dataclasses.replace(config, run=run), trained, path
        kept, held_out = subset.hold_out(source, config.run.validation, config.run.seed)
        self.source = dataclasses.replace(kept, test=held_out)
        asides = {"out": None, "resume": False, "epochs": None, "steps": None, "target_size": "", "around": ()}
        self.options = json.loads(json.dumps(to_dict(config) | asides | {"quiet": False}))
        known = json.loads(path.read_text()) if path.exists() else {"options": self.options, "tried": []}
        if known["options"] != self.options:
            raise ValueError(f"{path} has a search with other options; choose another --out")
        self.tried = [Tried(**one) for one in known["tried"]]

    def __call__(self, composition: Composition) -> Tried:
        text = str(composition)
        done = next((one for one in self.tried if one.composition == text), None)
        if done is None:
            done = self._train(composition)
            self.tried.append(done)
            kept = {"options": self.options, "tried": [dataclasses.asdict(one) for one in self.tried]}
            files.write_json(self.path, kept)
        if not self.config.run.quiet:
            print(f"{text}: {done.bytes} bytes, {done.accuracy:.2%} of the held-out images", flush=True)
        return done

    def _train(self, composition: Composition) -> Tried:
        config = with_composition(self.config, self.trained, composition)
        changes, model = technique_of(config, self.source)
        job = build.job(config, changes.data(self.source), changes)
        train_chunk = job.plan.train_chunk(job.train_step, job.loader.take)
        arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)
        chunks = job.loader.chunks(0, job.steps, job.chunk_steps)
        state = fit(job.state, lambda state, items: train_chunk(state, arrays, items), chunks, [])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / PACKED
            size = pack(path, config, self.trained, model, state)
            return Tried(str(composition), size, inference.load(path).evaluate(self.source)["accuracy"])


def train_in_full(config: CompressConfig, trained: Trained, source: Source, chosen: Composition, out: Path) -> int:
    """Trains a composition on all images, in ``out/run``, and writes its file; the exit status of the training.

    Raises:
      ValueError: the folder has another run.
    """
    folder = out / "run"
    there = (folder / "config.json").exists()
    plain = dataclasses.asdict(CompressOptions())
    unused = {name: plain[name] for name in ("target_size", "around", "search_epochs", "soft_weight")}
    config = with_composition(config, trained, chosen)
    config = replace(config, unused | {"out": folder, "resume": there})
    if there:
        before = resumed(folder, config)
        recorded = replace(config, before["options"] | before["technique"])
        config = same_run(recorded, replace(config, {"chunk_steps": recorded.run.chunk_steps}))
    status = train(config, lambda config, source: technique_of(config, source)[0])
    if status:
        return status
    changes, model = technique_of(config, source)
    job = build.job(config, changes.data(source), changes)
    restored = Checkpoints(folder / "checkpoints", config.run.keep).restore(job.state, print)
    if restored is None:
        raise ValueError(f"{folder} has no checkpoint; start anew with another --out")
    pack(out / PACKED, config, trained, model, restored[0])
    return 0
