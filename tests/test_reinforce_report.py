import json
import math

import numpy as np

from jaxdl.reinforce import report


def written(folder, seed, returns, greedy):
    own = folder / f"seed-{seed}"
    own.mkdir()
    lines = [
        {"step": n, "env_steps": 10.0, **({} if math.isnan(r) else {"return": r})} for n, r in enumerate(returns)
    ]
    (own / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "seed": seed, "greedy_return": greedy, "greedy_std": 1.0, "greedy_lowest": greedy - 1,
        "env_steps": 30.0, "env_steps_per_second": None,
    }  # fmt: skip
    (own / "summary.json").write_text(json.dumps(summary))


def test_the_report_has_each_seed_and_their_spread(tmp_path):
    written(tmp_path, 0, [1.0, 6.0, 4.0], 5.0)
    written(tmp_path, 1, [math.nan, 2.0, 3.0], 3.0)
    text = report.report("Toy", tmp_path, (0, 1), threshold=5.0)
    assert "mean of 2 seeds: 4.0 (std 1.4); solved (at least 5) by 1 of 2" in text
    found = json.loads((tmp_path / "reinforce.json").read_text())
    assert [row["solved_after"] for row in found["seeds"]] == [20, None]
    assert found["greedy_return"]["smallest"] == 3.0
    assert (tmp_path / "returns.png").read_bytes()[:4] == b"\x89PNG"


def test_a_curve_leaves_out_updates_in_which_no_episode_ended(tmp_path):
    written(tmp_path, 0, [math.nan, 2.0, math.nan, 3.0], 1.0)
    steps, returns = report.curve(tmp_path / "seed-0" / "metrics.jsonl")
    np.testing.assert_array_equal(steps, [20, 40])
    np.testing.assert_array_equal(returns, [2, 3])


def test_without_a_threshold_nothing_is_solved():
    assert report.verdict([1.0], None) == "Greedy return, mean of 1 seeds: 1.0"
    assert report.solved_after((np.asarray([1]), np.asarray([9.0])), None) is None
