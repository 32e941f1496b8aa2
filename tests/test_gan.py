"""The command from its options to its files, on the digits."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jaxdl import train
from jaxdl.gan import trainer
from jaxdl.gan.__main__ import main
from parity.twins import dcgan as twin

NARROW = ["--dataset", "digits", "--batch-size", "4", "--latent", "3", "--width", "2"]
SMALL = [*NARROW, "--steps", "50", "--judged", "20"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    run = tmp_path_factory.mktemp("classifier") / "run"
    argv = ["--dataset", "digits", "--steps", "2", "--hidden", "6", "--quiet", "--no-tensorboard"]
    assert train.main([*argv, "--out", str(run)]) == 0
    return run


def test_a_run_leaves_networks_for_torch_samples_and_a_report(tmp_path, capsys, classifier):
    out = tmp_path / "run"
    assert main([*SMALL, "--classifier", str(classifier), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "Seed 0, step [50/50]" in said
    assert "real images" in said
    found = json.loads((out / "gan.json").read_text())
    assert found["distance"]["mean"] == found["seeds"][0]["distance"] > 0
    assert sum(found["seeds"][0]["classes"]) == pytest.approx(1)
    module = twin.Generator(2, 1, 3, 2)
    module.load_state_dict(load_file(out / "seed-0" / "generator.safetensors"))
    twin.Discriminator(2, 1, 2).load_state_dict(load_file(out / "seed-0" / "discriminator.safetensors"))
    # torch makes of the same noise the samples that were kept.
    import jax

    from jaxdl.methods import gan

    noise = torch.tensor(np.asarray(gan.draw(jax.random.key(1), trainer.SAMPLES, 3)))
    with torch.no_grad():
        made = module.eval()(noise[:, :, None, None]).permute(0, 2, 3, 1)
    kept = np.load(out / "seed-0" / "samples" / "000050.npy").astype(np.int16)
    assert np.abs(kept - np.round((made.numpy() + 1) * 127.5)).max() <= 1
    assert (out / "samples.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "0"], "--steps must be at least 1; got 0"),
        (["--batch-size", "1"], "--batch-size must be at least 2"),
        (["--batch-size", "2000"], "--batch-size must lie between 1 and the 1437 training examples; got 2000"),
        (["--confidence", "1.5"], "--confidence must lie in [0, 1]; got 1.5"),
        (["--judged", "1"], "--judged must be at least 2; got 1"),
        (["--lr", "-1"], "lr must be 0 or more, got -1.0"),
        (["--classifier", "nowhere"], "nowhere holds no run"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(tmp_path, capsys, argv, message):
    assert main(["--dataset", "digits", *argv, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
