import json

import numpy as np
import pytest

from jaxdl.gan.judge import Judge
from jaxdl.gan.report import report

REAL = {"distance": 0.5, "confident": 0.99, "imbalance": 0.01, "classes": [0.5, 0.5]}


def written(folder, seed, distance):
    own = folder / f"seed-{seed}"
    (own / "samples").mkdir(parents=True)
    for step in (25, 100):
        np.save(own / "samples" / f"{step:06}.npy", np.full((20, 4, 4, 1), step, np.uint8))
    row = {"seed": seed, "steps": 100, **REAL, "distance": distance, "confident": 0.9}
    (own / "summary.json").write_text(json.dumps(row))


def test_the_report_has_each_seed_their_spread_and_real_images(tmp_path):
    written(tmp_path, 0, 4.0)
    written(tmp_path, 1, 6.0)
    text = report(tmp_path, (0, 1), Judge(None, None, REAL, 0.95), ("a", "b")).splitlines()
    assert [line.split()[0] for line in text[1:6]] == ["seed", "seed", "mean", "std", "real"]
    assert text[3].split()[:3] == ["mean", "5.00", "90.00%"]
    found = json.loads((tmp_path / "gan.json").read_text())
    assert found["distance"]["mean"] == 5
    assert found["distance"]["std"] == pytest.approx(2**0.5)
    assert (found["distance"]["smallest"], found["distance"]["largest"]) == (4, 6)
    for path in (tmp_path / "samples.png", tmp_path / "seed-1" / "samples.png"):
        assert path.read_bytes()[:4] == b"\x89PNG"


def test_without_a_judge_there_are_samples_only(tmp_path):
    written(tmp_path, 0, 4.0)
    assert report(tmp_path, (0,), None, ("a", "b")) == f"samples: {tmp_path / 'samples.png'}"


def test_one_seed_has_no_spread(tmp_path):
    written(tmp_path, 0, 4.0)
    text = report(tmp_path, (0,), Judge(None, None, REAL, 0.95), ("a", "b")).splitlines()
    assert [line.split()[0] for line in text[1:3]] == ["seed", "real"]
    assert json.loads((tmp_path / "gan.json").read_text())["distance"]["std"] is None
