import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl import tree
from jaxdl.engine import checkpoint, state
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.models import Net
from jaxdl.optim.optimizers import adam, sgd


def start(tx=None, seed=0, hidden=4):
    model = Net((2, 2, 1), 3, hidden=hidden, rngs=nnx.Rngs(seed))
    return state.create(model, tx or adam(), jax.random.key(seed + 10))[1]


def at_step(current, step):
    moved = jax.tree.map(lambda leaf: leaf + step, current.params)
    return state.TrainState(jnp.int32(step), moved, current.stats, current.opt_state, current.key)


def no_warning(message):
    raise AssertionError(message)


def same(left, right):
    left, right = checkpoint._arrays(left), checkpoint._arrays(right)
    assert left.keys() == right.keys()
    for name, array in left.items():
        assert array.dtype == right[name].dtype
        np.testing.assert_array_equal(array, right[name])


def test_a_state_comes_back_bit_for_bit_with_its_notes(tmp_path):
    saved = at_step(start(), 7)
    written = Checkpoints(tmp_path / "c", keep=2)
    written.save(saved, {"window": {"loss": [0.1, 2.0]}}, score=0.5)
    written.close()
    restored, notes = Checkpoints(tmp_path / "c", keep=2).restore(start(seed=1), no_warning) or (None, None)
    same(restored, saved)
    assert notes == {"window": {"loss": [0.1, 2.0]}}
    assert jax.random.uniform(restored.key) == jax.random.uniform(saved.key)


def test_what_is_saved_is_not_what_the_next_step_makes_of_it(tmp_path):
    current = at_step(start(), 1)
    expected = np.asarray(current.params["fc1"]["weight"])
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(current, {}, 0.0)
    jax.jit(lambda s: jax.tree.map(lambda x: x * 0, s.params), donate_argnums=0)(current)
    checkpoints.close()
    restored, _ = Checkpoints(tmp_path, keep=2).restore(start(), no_warning) or (None, None)
    np.testing.assert_array_equal(restored.params["fc1"]["weight"], expected)


def test_the_last_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, score in [(1, 0.1), (2, 0.9), (3, 0.3), (4, 0.2), (5, 0.4)]:
        checkpoints.save(at_step(start(), step), {}, score)
    checkpoints.close()
    assert Checkpoints(tmp_path, keep=2).steps() == [2, 4, 5]


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
    checkpoints = Checkpoints(tmp_path / "none", keep=2)
    assert checkpoints.restore(start(), no_warning) is None
    checkpoints.close()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(at_step(start(), step), {"step": step}, 0.0)
    checkpoints.close()
    largest = max(
        (p for p in (tmp_path / "2" / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 0x10
    largest.write_bytes(content[: len(content) // 2] if damage == "truncate" else content)
    if damage == "delete":
        shutil.rmtree(tmp_path / "2" / "state")
    warnings = []
    restored, notes = Checkpoints(tmp_path, keep=2).restore(start(), warnings.append) or (None, {})
    assert notes == {"step": 1}
    assert int(restored.step) == 1
    assert len(warnings) == 1
    assert warnings[0].startswith("checkpoint 2 is damaged (")


def test_changed_content_is_noticed(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=2)
    describe = checkpoint._describe
    monkeypatch.setattr(checkpoint, "_describe", lambda array: [*describe(array)[:2], "0" * 64])
    checkpoints.save(at_step(start(), 1), {}, 0.0)
    checkpoints.close()
    monkeypatch.undo()
    warnings = []
    with pytest.raises(ValueError, match=r"none of the checkpoints \[1\] could be read"):
        Checkpoints(tmp_path, keep=2).restore(start(), warnings.append)
    assert "other content than was written: key, opt_state" in warnings[0]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (lambda: start(sgd()), r"opt_state.0.exp_avg.fc1.bias is only in the checkpoint"),
        (
            lambda: start(hidden=5),
            r"params.fc1.bias has shape \[4\] float32 in the checkpoint and \[5\] float32 here",
        ),
    ],
)
def test_another_model_or_optimizer_is_an_error_that_lists_the_differences(tmp_path, other, difference):
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(at_step(start(), 1), {}, 0.0)
    checkpoints.close()
    with pytest.raises(ValueError, match=rf"of another model or optimizer: .*{difference}"):
        Checkpoints(tmp_path, keep=2).restore(other(), no_warning)


def test_a_disk_that_takes_no_more_is_an_os_error(tmp_path):
    (tmp_path / "c").write_text("a file where the folder should be")
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    with pytest.raises(OSError, match="File exists"):
        checkpoints.save(at_step(start(), 1), {}, 0.0)


def test_a_disk_without_room_is_an_os_error_before_anything_is_written(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(OSError, match=r"\[Errno 28\] a checkpoint needs up to 2\d\d kB, 100 kB are free"):
        checkpoints.save(at_step(start(), 1), {}, 0.0)
    assert list((tmp_path / "c").iterdir()) == []


def test_names_cover_every_leaf():
    current = start()
    assert len(checkpoint._arrays(current)) == len(jax.tree.leaves(current))
    assert tree.flatten(current).keys() == checkpoint._arrays(current).keys()
