"""The command as a user runs it, on the embedded digits."""

import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxdl import inference, parts, train
from jaxdl.config import ModelOptions
from jaxdl.data import sources
from jaxdl.engine import weights
from jaxdl.fuse import __main__ as fuse

TRAIN = ["--dataset", "digits", "--optimizer", "adam", "--lr", "0.01", "--hidden", "12", "--epochs", "1"]
QUIET = ["--quiet", "--no-tensorboard"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three trained runs, and two whose weights are another's or as drawn, with what cannot be fused."""
    root = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        assert train.main([*TRAIN, *QUIET, "--seed", str(seed), "--out", str(root / str(seed))]) == 0
    config = json.loads((root / "0" / "config.json").read_text())
    for name, images, options in (("normal", {"mean": [0.3], "std": [0.4]}, {}), ("narrow", {}, {"hidden": 9})):
        other = {**config, "images": config["images"] | images, "options": config["options"] | options}
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(other))
    net = parts.model(ModelOptions(hidden=9), inference.load(root / "0").seen, jax.random.key(0))
    weights.save(root / "narrow" / "weights.safetensors", net, nnx.to_pure_dict(nnx.state(net, nnx.Param)), {})
    shutil.copy(root / "0" / "weights.safetensors", root / "normal")
    return root


@pytest.fixture(scope="module")
def fused(runs):
    argv = [str(runs / str(seed)) for seed in range(3)]
    assert fuse.main([*argv, "--points", "5", "--out", str(runs / "fused")]) == 0
    return runs / "fused"


def test_members_are_measured_as_their_runs_said(fused, runs):
    content = json.loads((fused / "fuse.json").read_text())
    summaries = [json.loads((runs / str(seed) / "summary.json").read_text()) for seed in range(3)]
    for row, summary in zip(content["members"], summaries, strict=True):
        assert row["accuracy"] == pytest.approx(summary["accuracy"], abs=1e-6)
        assert row["loss"] == pytest.approx(summary["loss"], rel=1e-4)
    assert content["mean"]["accuracy"] == pytest.approx(np.mean([one["accuracy"] for one in summaries]), abs=1e-6)


def test_an_ensemble_is_the_mean_of_what_the_runs_predict(fused, runs):
    test = sources.load("digits").test
    mean = np.mean([inference.load(runs / str(seed)).predict(test["image"]) for seed in range(3)], 0)
    rows = {row["name"]: row for row in json.loads((fused / "fuse.json").read_text())["fused"]}
    expected = (mean.argmax(1) == test["label"]).mean()
    assert rows["ensemble, mean of probabilities"]["accuracy"] == pytest.approx(expected, abs=1e-9)
    assert rows["ensemble, mean of probabilities"]["models"] == 3
    assert set(rows) >= {"stacking *", "weights averaged", "weights aligned, then averaged"}


def test_fused_models_are_used_like_runs(fused, runs):
    rows = {row["name"]: row for row in json.loads((fused / "fuse.json").read_text())["fused"]}
    digits = sources.load("digits")
    for folder, name in (("uniform", "weights averaged"), ("aligned", "weights aligned, then averaged")):
        found = inference.load(fused / folder).evaluate(digits)
        assert found["accuracy"] == pytest.approx(rows[name]["accuracy"], abs=1e-6)
    uniform, members = inference.load(fused / "uniform"), [inference.load(runs / str(seed)) for seed in range(3)]
    mean = np.mean([one.state.params["fc1"]["weight"] for one in members], 0)
    np.testing.assert_allclose(uniform.state.params["fc1"]["weight"], mean, rtol=1e-5, atol=1e-6)
    best = max(one.evaluate(digits)["accuracy"] for one in members)
    assert inference.load(fused / "greedy").evaluate(digits)["accuracy"] >= best - 1e-9


def test_fused_models_are_not_trained_further(fused, capsys):
    assert train.main(["--out", str(fused / "uniform"), "--resume"]) == 2
    assert "was written by python -m jaxdl.fuse; only that command goes on with it" in capsys.readouterr().err


def test_alignment_lowers_the_barrier(fused):
    plain, aligned = json.loads((fused / "fuse.json").read_text())["ways"]
    assert plain["losses"][0] == pytest.approx(aligned["losses"][0], rel=1e-3)
    assert plain["losses"][-1] == pytest.approx(aligned["losses"][-1], rel=1e-3)
    assert aligned["barrier"] < plain["barrier"]
    with Image.open(fused / "fuse.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected two runs or more to fuse; got 0"),
        (["{runs}/0"], "expected two runs or more to fuse; got 1"),
        (["{runs}/0", "{runs}/none"], "holds no run (no config.json in it)"),
        (["{runs}/0", "{runs}/narrow"], "cannot be fused with {runs}/0: hidden is 9 there and 12 here"),
        (["{runs}/0", "{runs}/normal"], "cannot be fused with {runs}/0: mean is ("),
        (
            ["{runs}/0", "{runs}/1", "--out", "{runs}"],
            "is not empty and holds no fused runs; choose another --out",
        ),
        (["{runs}/0", "{runs}/1", "--points", "2"], "--points must be at least 3; got 2"),
        (["{runs}/0", "{runs}/1", "--data-dir", "{runs}"], "embedded"),
        (["{runs}/0", "--piont", "3"], "unknown option --piont; did you mean --points?"),
    ],
)
def test_a_mistake_is_one_line(runs, argv, message, mistake):
    said = mistake(fuse.main, [part.format(runs=runs) for part in argv])
    assert said.err.startswith("jaxdl.fuse: error: ")
    assert message.format(runs=runs) in said.err
