"""The command from its options to its files, on a small environment."""

import json

import pytest
import torch
from safetensors.torch import load_file

from jaxdl.reinforce.__main__ import main
from parity.twins.reinforce import ActorCritic

SMALL = ["--env", "Catch-bsuite", "--envs", "8", "--updates", "3", "--hidden", "4", "--episodes", "5"]


def test_a_run_leaves_weights_for_torch_records_and_a_report(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main([*SMALL, "--rollout", "12", "--minibatches", "2", "--passes", "1", "--seeds", "2", "--out", str(out)])
        == 0
    )
    said = capsys.readouterr().out
    assert "Seed 1, update [3/3]" in said
    assert "Greedy return, mean of 2 seeds:" in said
    found = json.loads((out / "reinforce.json").read_text())
    assert [row["env_steps"] for row in found["seeds"]] == [3 * 8 * 12] * 2
    assert (out / "returns.png").stat().st_size > 1000
    module = ActorCritic(50, 3, 4)
    module.load_state_dict(load_file(out / "seed-0" / "weights.safetensors"))
    assert module(torch.ones(2, 50))[0].shape == (2, 3)

    # More seeds: those that have ended stay.
    before = (out / "seed-1" / "summary.json").stat().st_mtime_ns
    assert main(["--out", str(out), "--resume", "--seeds", "3", "--quiet"]) == 0
    assert (out / "seed-1" / "summary.json").stat().st_mtime_ns == before
    assert len(json.loads((out / "reinforce.json").read_text())["seeds"]) == 3


def test_reinforce_needs_no_gymnasium_threshold(tmp_path, capsys):
    argv = [
        *SMALL,
        "--algorithm",
        "reinforce",
        "--baseline",
        "none",
        "--updates",
        "1",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(argv) == 0
    assert "solved" not in capsys.readouterr().out.splitlines()[-2].removeprefix("seed")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--env", "CartPol-v1"], "unknown environment CartPol-v1; did you mean CartPole-v1?"),
        (["--env", "Pendulum-v1"], "Pendulum-v1 takes Box actions"),
        (["--minibatches", "3", "--envs", "8"], "expected minibatches that divide the 256 steps"),
        (["--baseline", "none"], "--baseline has no meaning for ppo"),
        (["--algorithm", "reinforce", "--clip", "0.1"], "--clip has no meaning for reinforce"),
        (["--envs", "0"], "--envs must be at least 1; got 0"),
        (["--gamma", "1.5"], "--gamma must lie in [0, 1]; got 1.5"),
        (["--reward-scale", "0"], "--reward-scale must be a number above 0; got 0.0"),
        (["--clip", "0"], "the clip of PPO must be above 0; got 0.0"),
        (["--lr", "-1"], "the rate must be 0 or more, got -1.0"),
        (["--seeds", "0"], "--seeds must be at least 1; got 0"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(tmp_path, capsys, argv, message):
    assert main([*argv, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
