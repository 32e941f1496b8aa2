import json

import pytest
from PIL import Image

from jaxdl import train
from jaxdl.finetune import __main__ as finetune
from jaxdl.finetune import report as finetune_report

FOUND = {
    10: {"from scratch": [0.5, 0.6], "pre-trained": [0.7, 0.9]},
    100: {"from scratch": [0.9, 0.9], "pre-trained": [0.9, 0.9]},
}


def test_gains_are_paired_by_seed():
    gains = finetune_report.gains(FOUND)
    assert gains[10]["mean"] == pytest.approx(25)  # of 20 and 30
    # Student's t for one degree of freedom at 97.5 % is 12.706; the deviation of 20 and 30 is sqrt(50).
    assert gains[10]["low"] == pytest.approx(25 - 12.7062 * 50**0.5 / 2**0.5, rel=1e-4)
    assert gains[100]["mean"] == 0


def test_the_table_has_a_row_for_each_number_of_labels():
    lines = finetune_report.rows(FOUND)
    assert [line.split()[0] for line in lines] == ["labels", "10", "100"]
    assert "55.00 ± 7.07%" in lines[1]
    assert "+25.0" in lines[1]


def test_one_seed_has_no_interval():
    lines = finetune_report.rows({10: {"from scratch": [0.5], "pre-trained": [0.75]}})
    assert lines[1].split() == ["10", "50.00%", "75.00%", "+25.0"]


def test_a_comparison_leaves_table_picture_and_runs(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    small = ["--dataset", "digits", "--quiet", "--no-tensorboard"]
    assert train.main([*small, "--hidden", "16", "--optimizer", "adam", "--epochs", "5", "--out", str(run)]) == 0
    argv = [str(run), "--dataset", "digits", "--compare-scratch", "--labels", "20", "--seeds", "1", "--steps", "5"]
    capsys.readouterr()
    assert finetune.main([*argv, "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("20 labels, from scratch, seed 0: ")
    assert said[-2].split()[:3] == ["labels", "from", "scratch"]
    kept = json.loads((out / "transfer.json").read_text())
    pretrained, scratch = (kept["accuracy"]["20"][arm] for arm in ("pre-trained", "from scratch"))
    assert min(pretrained) > max(scratch)  # it has seen all the digits, and the other five steps of 20
    assert kept["gain"]["20"]["n"] == 1
    with Image.open(out / "transfer.png") as picture:
        assert picture.size == (700, 450)
    single = json.loads((out / "labels-20" / "from-scratch-seed-0" / "summary.json").read_text())
    assert single["accuracy"] == scratch[0]
    first = (out / "transfer.json").read_bytes()
    assert finetune.main([*argv, "--out", str(out)]) == 0  # what is complete is read
    assert (out / "transfer.json").read_bytes() == first
    capsys.readouterr()
    assert finetune.main([*argv, "--lr", "0.5", "--out", str(out)]) == 2
    assert "was started with other options: --lr was None, is 0.5" in capsys.readouterr().err
