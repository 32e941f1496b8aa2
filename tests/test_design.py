"""The rules of the house: who may import whom, and that every module has its test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "jaxdl").rglob("*.py") if path.name != "__init__.py")
# From the ground up; a module imports from floors below its own, or from those named before it on its own.
FLOORS = """
typing scalar tree files command_line config recipes sweep.settings sweep.plan tune.options

nn.init nn.layout nn.activations nn.linear nn.flatten
nn.windows nn.winograd nn.conv_matrices nn.conv nn.conv_transpose nn.pooling nn.norm nn.dropout nn.attention
nn.losses
optim.optimizers optim.schedules optim.transforms
data.paths data.idx data.npz data.tfds data.mnist data.folder data.sources data.subset data.warp data.transforms
data.augmentation data.resize
data.loader

models.net models.cnn models.resnet models.vit models models.dcgan models.actor_critic

engine.cluster engine.group engine.processes
engine.memory engine.host engine.run_folder engine.state engine.timing engine.metrics engine.objective engine.step
engine.stages
engine.parallel.devices engine.parallel.flat engine.parallel.shares engine.parallel.gradient
engine.parallel.pipeline engine.parallel.tensor engine.parallel.programs engine.parallel.plan
engine.parallel
engine.checkpoint engine.packed engine.weights engine.table engine.figure engine.plots engine.bands
engine.trials engine.log engine.graph engine.tensorboard engine.loop engine.hooks
engine.stopping engine.seeds engine.ownstep

methods.consistency methods.gan methods.rollout methods.reinforce methods.ppo
methods.features methods.quality methods.distill
methods.fuse.ensemble methods.fuse.stacking methods.fuse.soup methods.fuse.align methods.fuse.averaging
methods.multitask.tasks methods.multitask.balance methods.multitask.model
methods.sweep methods.split methods.onnx_nodes
methods.quantize.affine methods.quantize.calibrate methods.quantize.layers methods.quantize.convert
methods.quantize.qat methods.quantize.qdq
methods.prune.masks methods.prune.ramp methods.prune.units methods.prune.plan methods.low_rank methods.compose
methods.finetune.transfer methods.finetune.rates methods.finetune.lora methods.finetune methods.survey
methods.advice
methods.export.program methods.export.graph methods.export.lowering methods.export.trace methods.export.evaluate
methods.export.kernels methods.export.c_writer methods.export.c_operations methods.export.c_source
methods.export.c methods.export.onnx_operations methods.export.onnx_file
methods.export.stablehlo
methods.export.litert methods.export.formats methods.export.check

pictures parts inference build
quick_trial explain session train
quantize.options quantize.codes predict comparison quantize.report quantize.__main__
finetune.options finetune.plan finetune.report finetune.__main__ regularize.report regularize.__main__
sweep.groups sweep.members sweep.report sweep.__main__ tune.search tune.samplers tune.study tune.report
tune.workers tune.__main__
teachers restored distill.report distill.__main__ fuse.fusion fuse.report fuse.__main__
average.report average.__main__
multitask.report multitask.__main__
export split
reinforce.options reinforce.report reinforce.trainer reinforce.__main__
gan.options gan.judge gan.report gan.trainer gan.__main__
consistency.options consistency.report consistency.__main__
prune.options prune.technique prune.report prune.__main__
compress.options compress.forms compress.training compress.search compress.report compress.__main__
"""
ORDER = {name: place for place, name in enumerate(FLOORS.split())}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "jaxdl").with_suffix("").parts)


def imports(path: Path) -> set[str]:
    """The modules of jaxdl, and the packages of others, that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            known = {name for name in inner if name.removeprefix("jaxdl.") in ORDER}
            found |= known | ({node.module} if inner - known else set())
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_lies_below_it(path):
    own = name_of(path)
    assert own in ORDER, "give the module its place in FLOORS"
    for imported in imports(path):
        package = imported.split(".")[0]
        assert package not in ("torch", "parity", "benchmarks", "tensorflow"), imported
        below = imported.removeprefix("jaxdl.")
        if package == "jaxdl" and below != "jaxdl":
            assert ORDER[below] < ORDER[own], f"{own} imports {below}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_has_a_test_of_its_name(path):
    name = path.parent.name if path.stem == "__main__" else path.stem
    if name in ("typing",):  # names of types only
        return
    candidates = [ROOT / "tests" / f"test_{other}.py" for other in (name, f"{path.parent.name}_{name}")]
    assert any(candidate.exists() for candidate in candidates), name


def test_the_project_speaks_of_itself_alone():
    """Machine paths and hosts of registries have no place in it."""
    words = ["/" + "work/", "/" + "root/", "pypi" + ".org", "python" + "hosted"]
    for path in [*ROOT.glob("*.*"), *(ROOT / "jaxdl").rglob("*.py"), *(ROOT / "tests").glob("*.py")]:
        text = path.read_text() if path.is_file() else ""
        assert not [word for word in words if word in text], path
