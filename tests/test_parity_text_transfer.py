import json
import subprocess
import sys

import numpy as np
import pytest

from parity import text_features, text_transfer


@pytest.fixture
def corpus(tmp_path):
    """Sentences whose class is written in them, which single words do not tell."""
    path = tmp_path / "corpus.csv"
    lines = (f"{'good' if number % 2 else 'bad'},w{number % 7} n{number}\n" for number in range(200))
    path.write_text("sentiment,text\n" + "".join(lines))
    return path


@pytest.fixture
def knowing(monkeypatch):
    """In the place of the language model: the class, in noise."""

    def embedded(texts):
        odd = np.array([[int(text.split("n")[1]) % 2] for text in texts])
        return odd + np.random.default_rng(0).normal(0, 0.1, (len(texts), 8))

    monkeypatch.setitem(text_features.FEATURES, "minilm", embedded)


@pytest.mark.usefixtures("knowing")
def test_it_tells_what_the_features_gain(corpus, tmp_path, capsys):
    out = tmp_path / "out"
    argv = [str(corpus), "--labels", "40", "--batch-size", "32", "--seeds", "2", "--lr", "0.05", "--epochs", "30"]
    argv += ["--out", str(out)]
    assert text_transfer.main(argv) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("40 labels, counted words, seed 0: ")
    assert said[-2].startswith("labels  counted words")
    kept = json.loads((out / "transfer.json").read_text())
    assert min(kept["accuracy"]["40"]["MiniLM"]) == 1
    assert kept["gain"]["40"]["mean"] > 10
    assert (out / "transfer.png").stat().st_size > 0
    config = json.loads((out / "labels-40" / "MiniLM-seed-1" / "config.json").read_text())
    assert config["options"]["data_dir"] == str(out / "minilm.npz")
    first = (out / "transfer.json").read_bytes()
    assert text_transfer.main(argv) == 0  # what is complete is read
    assert (out / "transfer.json").read_bytes() == first


@pytest.mark.usefixtures("knowing")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected a CSV file with sentences; see --help"),
        (["{tmp}/none.csv"], "none.csv"),
        (["{corpus}", "--label", "mood"], "expected columns text and mood; there is sentiment, text"),
        (
            ["{corpus}", "--labels", "5000"],
            "to 160 training images of npz; got 5000",
        ),
        (["{corpus}", "--seeds", "0"], "at least one of --seeds"),
    ],
)
def test_a_mistake_is_one_line(corpus, tmp_path, argv, message, capsys):
    words = [word.format(tmp=tmp_path, corpus=corpus) for word in argv]
    assert text_transfer.main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_help_needs_neither_jax_nor_torch():
    code = "import sys; from parity import text_transfer; assert not {'jax', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
