import os
import signal

from jaxdl.engine.loop import Hook
from jaxdl.gan import trainer
from jaxdl.gan.__main__ import main

SMALL = ["--dataset", "digits", "--batch-size", "4", "--latent", "3", "--width", "2", "--steps", "50"]


class StopAt(Hook):
    """Sends the signal that Ctrl-C sends, once."""

    def due(self, step):
        if step == 25:
            os.kill(os.getpid(), signal.SIGINT)
        return False


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, capsys, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main([*SMALL, "--quiet", "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "Samples", lambda *_: StopAt())
        assert main([*SMALL, "--quiet", "--out", str(stopped)]) == 130
    assert "stopped by SIGINT after step 25, which is saved" in capsys.readouterr().err
    assert main(["--resume", "--quiet", "--out", str(stopped)]) == 0
    for name in ("generator.safetensors", "discriminator.safetensors"):
        assert (whole / "seed-0" / name).read_bytes() == (stopped / "seed-0" / name).read_bytes()


def test_samples_are_kept_early_and_at_the_end():
    class Options:
        steps = 1000

    class Given:
        options = Options

    hook, kept = trainer.Samples(Given(), None, 0), []
    for step in (25, 100, 137, 237, 262, 990, 1000):  # the ends of chunks
        if hook.due(step):
            kept.append(step)
            hook.kept = step
    assert kept == [25, 137, 262, 990, 1000]
