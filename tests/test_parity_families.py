"""Correct ports of many kinds of layers pass; what is not the same does not."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from parity.pair import Pair
from parity.prove import prove
from parity.twins.families import FAMILIES
from parity.twins.families.conv import linen_batch_norm
from parity.twins.families.parts import TRAINED
from parity.twins.families.recurrent import Recurrent, recurrent
from parity.verdict import Verdict


def reasons(judgement) -> str:
    return "\n".join(f"{phase.name}: {phase.error or phase.worst}" for phase in judgement.phases)


# One of every kind that the bridge treats in a way of its own; `pytest parity` proves them all.
CHOSEN = (
    "sequential",
    "linen-perceptron",
    "conv1d",
    "conv-transpose-mirrored",
    "norms",
    "tied",
    "linen-attention",
)
CHOSEN += ("linen-attention", "linen-gru", "flattened", "dropped")


@pytest.mark.parametrize("name", CHOSEN)
def test_a_correct_port_passes(name):
    judgement = prove(dataclasses.replace(FAMILIES[name](), name=name), steps=2)
    assert judgement.verdict is Verdict.PASS, reasons(judgement)
    assert not any(leaf.verdict is Verdict.FAIL for phase in judgement.phases for leaf in phase.leaves)


def test_linens_biased_variance_fails_in_the_buffers_alone():
    judgement = prove(linen_batch_norm(), steps=1)
    assert [phase.name for phase in judgement.phases if phase.verdict is Verdict.FAIL] == ["buffers"]
    assert [leaf.name for leaf in judgement.phase("buffers").leaves if leaf.verdict is Verdict.FAIL] == [
        "bn.running_var"
    ]


def test_nnx_gru_is_another_function_than_torchs():
    judgement = prove(recurrent("GRU", lambda: Recurrent(nnx.GRUCell, 5)), steps=1)
    assert judgement.verdict is Verdict.ERROR
    assert "b_hn" in judgement.phases[0].error


def test_dropout_inside_torchs_lstm_cannot_be_shared():
    pair = recurrent("LSTM", lambda: Recurrent(nnx.LSTMCell, 5, 2), num_layers=2, dropout=0.5)
    judgement = prove(pair, steps=1)
    assert judgement.verdict is Verdict.ERROR
    assert "random numbers in training that the port cannot share" in judgement.phases[0].error


# A port by hand of a model that somebody else wrote.
WIDTH, HEADS, WORDS = 12, 3, 23


class BertLayer(nnx.Module):
    """Attention and perceptron, each with its norm behind it."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.query, self.key, self.value, self.dense = (nnx.Linear(WIDTH, WIDTH, rngs=rngs) for _ in range(4))
        self.norm1, self.norm2 = (norm(rngs) for _ in range(2))
        self.up, self.down = nnx.Linear(WIDTH, 20, rngs=rngs), nnx.Linear(20, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        q, k, v = (layer(x).reshape(*x.shape[:2], HEADS, -1) for layer in (self.query, self.key, self.value))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(WIDTH // HEADS)
        weights = jax.nn.softmax(jnp.where(mask[:, None, None, :] > 0, scores, -jnp.inf), -1)
        attended = jnp.einsum("bhqk,bkhd->bqhd", self.dropout(weights), v).reshape(x.shape)
        x = self.norm1(x + self.dropout(self.dense(attended)))
        return self.norm2(x + self.dropout(self.down(jax.nn.gelu(self.up(x), approximate=False))))


def norm(rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(WIDTH, epsilon=1e-12, use_fast_variance=False, rngs=rngs)


class Bert(nnx.Module):
    """Under other names and in another order than the original."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([BertLayer(rngs) for _ in range(2)])
        self.words, self.positions, self.types = (nnx.Embed(n, WIDTH, rngs=rngs) for n in (WORDS, 16, 2))
        self.norm, self.pool = norm(rngs), nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, input_ids: jax.Array, attention_mask: jax.Array) -> dict[str, jax.Array]:
        places = self.positions(jnp.arange(input_ids.shape[1]))
        x = self.words(input_ids) + places + self.types(jnp.zeros_like(input_ids))
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x, attention_mask)
        return {"pooler_output": jnp.tanh(self.pool(x[:, 0])), "last_hidden_state": x}


def sentences(rng: np.random.Generator) -> dict[str, Any]:
    mask = np.ones((3, 7), int)
    mask[1, 5:] = mask[2, 3:] = 0
    return {"input_ids": rng.integers(1, WORDS, (3, 7)), "attention_mask": mask}


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_transformers_without_one_rule():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=20,
        max_position_embeddings=16,
    )
    torch.manual_seed(0)
    pair = Pair(torch=lambda: transformers.BertModel(config), flax=Bert, inputs=sentences, **TRAINED)
    judgement = prove(pair, steps=2)
    assert judgement.verdict is Verdict.PASS, reasons(judgement)
    assert judgement.phase("resume").verdict is Verdict.PASS
