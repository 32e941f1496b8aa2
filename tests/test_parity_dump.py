"""Two environments: what is compared offline is what a proof in one process finds."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.nn.linear import Linear
from parity import Pair
from parity.dump import compare, dump_flax, dump_torch
from parity.pair import PairError
from parity.prove import prove
from parity.recording import FACTS, TENSORS, RecordingError
from parity.twins import PAIRS
from parity.twins.families.conv import dropped, flattened
from parity.twins.families.dense import own
from parity.verdict import Verdict

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory):
    """The pair, and its two dumps."""
    folder = tmp_path_factory.mktemp("dumps")
    pair = PAIRS["perceptron"]()
    dump_torch(pair, folder / "a", steps=2)
    dump_flax(pair, folder / "a", folder / "b")
    return pair, folder / "a", folder / "b"


def results(judgement):
    return {
        (phase.name, leaf.name): (leaf.verdict, leaf.error) for phase in judgement.phases for leaf in phase.leaves
    }


def copied(source, target):
    target.mkdir()
    for name in (TENSORS, FACTS):
        (target / name).write_bytes((source / name).read_bytes())
    return target


def test_offline_says_what_a_proof_says(perceptron):
    pair, a, b = perceptron
    offline, direct = compare(b, a), prove(pair, steps=2)
    assert offline.verdict is Verdict.PASS
    assert results(offline) == results(direct)
    assert offline.warnings == direct.warnings


def test_without_updates_the_other_phases_are_the_same(tmp_path):
    pair = PAIRS["convnet"]()
    dump_torch(pair, tmp_path / "a", steps=0)
    dump_flax(pair, tmp_path / "a", tmp_path / "b")
    offline = compare(tmp_path / "a", tmp_path / "b")
    assert offline.verdict is Verdict.PASS
    assert offline.phase("updates").skipped == "no updates were asked for"
    names = [leaf.name for leaf in offline.phase("parameter_gradients").leaves]
    assert names[0] == "conv1.weight"
    assert len(names) == 9
    assert offline.phase("buffers").verdict is Verdict.PASS


def test_a_given_module_is_not_changed(tmp_path):
    module = torch.nn.Linear(4, 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    pair = Pair(torch=module, flax=lambda: Linear(4, 3, rngs=nnx.Rngs(0)), inputs=lambda rng: rng.random((5, 4)))
    dump_torch(pair, tmp_path, steps=0)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert module.weight.dtype == torch.float32


def test_a_faulty_port_fails_offline(perceptron, tmp_path):
    pair, a, _ = perceptron
    wrong = dataclasses.replace(pair, loss=(pair.loss[0], lambda x, y: 1.001 * pair.loss[1](x, y)))
    dump_flax(wrong, a, tmp_path)
    judgement = compare(a, tmp_path)
    assert judgement.phase("train_forward").verdict is Verdict.PASS
    assert judgement.phase("loss").verdict is Verdict.FAIL
    assert judgement.phase("parameter_gradients").verdict is Verdict.FAIL


PORT = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from parity import Pair
import parity.bridge, parity.flax_side, parity.masks
from parity.dump import dump_flax


def make():
    import torch
    return torch.nn.Linear(4, 3)


def flax(seed=0):
    from flax import nnx
    from jaxdl.nn.linear import Linear
    return Linear(4, 3, rngs=nnx.Rngs(seed))


pair = Pair(torch=make, flax=flax, inputs=lambda rng: rng.random((5, 4)), name="lazy")
if __name__ == "__main__":
    dump_flax(pair, Path(sys.argv[1]), Path(sys.argv[2]))
"""
JUDGE = """
import sys
for name in ("torch", "jax", "flax", "optax"):
    sys.modules[name] = None
from parity.dump import compare
print(compare(sys.argv[1], sys.argv[2]).verdict.value)
"""


def test_the_port_runs_without_torch_and_the_judge_without_either(tmp_path):
    pair = Pair(
        torch=lambda: torch.nn.Linear(4, 3),
        flax=lambda: pytest.fail("torch's side made the port"),
        inputs=lambda rng: rng.random((5, 4)),
        name="lazy",
    )
    dump_torch(pair, tmp_path / "a", steps=0)

    def run(script):
        command = [sys.executable, "-c", script, str(tmp_path / "a"), str(tmp_path / "b")]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = run(PORT)
    assert done.returncode == 0, done.stderr
    done = run(JUDGE)
    assert done.stdout.strip() == "PASS", done.stderr


def test_other_batches_are_one_clear_error(perceptron, tmp_path):
    _, a, _ = perceptron
    with pytest.raises(PairError, match=r"made from other batches \(pair 'perceptron', seed 0\)"):
        dump_flax(PAIRS["block"](), a, tmp_path)


def test_dumps_that_do_not_belong_together(perceptron, tmp_path):
    pair, a, b = perceptron
    dump_torch(pair, tmp_path / "other", seed=1, steps=2)
    with pytest.raises(RecordingError, match="differ in seed: torch's 1, the port's 0"):
        compare(tmp_path / "other", b)
    with pytest.raises(RecordingError, match="two of torch's"):
        compare(a, a)
    with pytest.raises(RecordingError, match="is a dump of flax's side, expected torch's"):
        dump_flax(pair, b, tmp_path / "c")


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [
        ("dtype", "float32", "computed in float32, a proof needs float64"),
        ("pair", "another", "the dumps differ in pair"),
        ("of", "", "was made from another dump"),
        ("format", 0, "no dump of this version"),
        ("side", None, "has no side"),
    ],
)
def test_wrong_facts_are_one_clear_error(perceptron, tmp_path, fact, value, message):
    _, a, b = perceptron
    spoilt = copied(b, tmp_path / "b")
    facts = json.loads((spoilt / FACTS).read_text())
    facts = {key: entry for key, entry in facts.items() if key != fact} | ({} if value is None else {fact: value})
    (spoilt / FACTS).write_text(json.dumps(facts))
    with pytest.raises(RecordingError, match=message):
        compare(a, spoilt)


def test_a_flipped_bit_is_found(perceptron, tmp_path):
    _, a, b = perceptron
    spoilt = copied(b, tmp_path / "b")
    content = bytearray((spoilt / TENSORS).read_bytes())
    content[-3] ^= 1
    (spoilt / TENSORS).write_bytes(content)
    with pytest.raises(RecordingError, match="is not what was written"):
        compare(a, spoilt)


def test_two_biases_that_the_port_adds_up_have_to_be_held(tmp_path):
    class Port(nnx.Module):
        def __init__(self):
            self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=nnx.Rngs(0)))

        def __call__(self, x):
            return self.rnn(x)

    class Original(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = torch.nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    import optax

    pair = Pair(
        torch=Original,
        flax=Port,
        inputs=lambda rng: rng.random((2, 5, 3)),
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.1),
        tx=optax.sgd(0.1),
    )
    dump_torch(pair, tmp_path / "a", steps=2)
    with jax.numpy_dtype_promotion("standard"), pytest.raises(PairError, match="again with hold=") as raised:
        dump_flax(pair, tmp_path / "a", tmp_path / "b")
    hold = (str(raised.value).split("'")[-2],)
    dump_torch(pair, tmp_path / "a", steps=2, hold=hold)
    dump_flax(pair, tmp_path / "a", tmp_path / "b")
    judgement = compare(tmp_path / "a", tmp_path / "b")
    assert judgement.verdict is Verdict.PASS
    gradients = [leaf.name for leaf in judgement.phase("parameter_gradients").leaves]
    assert len(gradients) == 3
    assert not np.isin(hold, gradients).any()


@pytest.mark.parametrize(
    "pair", [own(turned=True), flattened(), dropped()], ids=["square weight", "flattened", "square image"]
)
def test_what_shapes_leave_open_is_settled_offline(pair, tmp_path):
    pair = dataclasses.replace(pair, torch_optimizer=None, tx=None)
    dump_torch(pair, tmp_path / "a", steps=0)
    dump_flax(pair, tmp_path / "a", tmp_path / "b")
    judgement = compare(tmp_path / "a", tmp_path / "b")
    assert judgement.verdict is Verdict.PASS
    assert not any("several orders" in line for line in judgement.warnings)


def test_what_stays_open_offline_is_said_with_the_rule(tmp_path):
    pair = own(turned=True)
    wrong = dataclasses.replace(pair, flax_call=lambda module, x, **_: module(jnp.flip(x, 1)))
    dump_torch(pair, tmp_path / "a", steps=0)
    dump_flax(wrong, tmp_path / "a", tmp_path / "b")
    judgement = compare(tmp_path / "a", tmp_path / "b")
    assert judgement.verdict is Verdict.FAIL
    (line,) = [line for line in judgement.warnings if "several orders" in line]
    assert "rules=[Rule('a.weight', 'first.kernel', perm=(...))]" in line
