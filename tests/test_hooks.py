import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.data.loader import Chunk
from jaxdl.engine import hooks
from jaxdl.engine.loop import Late
from jaxdl.engine.state import TrainState


class Memory:
    def __init__(self):
        self.records = []

    def write(self, record):
        self.records.append(record)

    def close(self):
        pass


class Saved:
    def __init__(self):
        self.calls = []

    def save(self, state, notes, score):
        self.calls.append((int(state.step), notes, score))


def metrics(losses, size=2.0, rate=0.1):
    losses = np.asarray(losses, np.float32)
    ones = np.ones_like(losses)
    return {"loss": (losses * size, ones * size), "accuracy": (ones, ones * size), "lr": (ones * rate, ones)}


def log(memory, every=2, steps_per_epoch=5):
    return hooks.Log([memory], lambda *_: None, every=every, steps_per_epoch=steps_per_epoch)


def state(step=3, value=1.0):
    return TrainState(jnp.int32(step), {"w": jnp.array([value])}, {}, (), jax.random.key(0))


def feed(hook, losses, chunk_steps, start=0):
    for first in range(0, len(losses), chunk_steps):
        part = losses[first : first + chunk_steps]
        hook.on_metrics(Chunk(start + first, start + first + len(part), None), metrics(part))


LOSSES = [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("chunk_steps", [1, 2, 3, 5])
def test_records_are_means_since_the_last_and_do_not_depend_on_chunks(chunk_steps):
    memory = Memory()
    feed(log(memory), LOSSES, chunk_steps)
    shown = [(r["step"], r["epoch"], r["loss"], r["batch_loss"], r["accuracy"], r["lr"]) for r in memory.records]
    assert shown == [(2, 0.4, 1.5, 2.0, 0.5, 0.1), (4, 0.8, 3.5, 4.0, 0.5, 0.1), (5, 1.0, 5.0, 5.0, 0.5, 0.1)]


def test_the_speed_of_the_first_chunk_is_not_told_because_it_is_compilation():
    memory = Memory()
    feed(log(memory), LOSSES, 2)
    assert ["steps_per_second" in record for record in memory.records] == [False, True, True]


def test_progress_is_told_of_every_chunk():
    told = []
    hook = hooks.Log([], lambda *values: told.append(values), every=100, steps_per_epoch=5)
    feed(hook, LOSSES, 2)
    assert told == [(2, 1.5, 0.5), (4, 3.5, 0.5), (5, 5.0, 0.5)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_no_number_names_its_step(bad):
    with pytest.raises(hooks.NonFiniteError, match=rf"the loss is {bad} at step 13"):
        log(Memory()).on_metrics(Chunk(10, 14, None), metrics([1.0, 2.0, bad, bad]))


def test_evaluation_is_exact_over_ragged_batches_and_remembers_the_best():
    memory = Memory()
    hook = hooks.Evaluate(lambda accuracies: accuracies, [memory], steps_per_epoch=5, last_step=12)
    late = Late()
    for step, correct in [(5, 9.0), (10, 6.0)]:
        whole = {
            "loss": (np.array([4.0, 4.0]), np.array([4.0, 4.0])),
            "accuracy": (np.zeros(2), np.array([4.0, 4.0])),
        }
        ragged = {"loss": (np.array([4.0]), np.array([2.0])), "accuracy": (np.array([correct]), np.array([2.0]))}
        hook.on_state(step, [whole, ragged], late)  # pyright: ignore[reportArgumentType]
    late.flush()
    assert [(r["step"], r["loss"], r["accuracy"]) for r in memory.records] == [(5, 1.2, 0.9), (10, 1.2, 0.6)]
    assert (hook.last["step"], hook.best["step"]) == (10, 5)
    assert [step for step in range(1, 13) if hook.due(step)] == [5, 10, 12]


def saver(signals, saved, memory=None, every=4, last_step=10):
    evaluate = hooks.Evaluate(lambda _: [], [], steps_per_epoch=5, last_step=last_step)
    training = log(memory or Memory())
    return hooks.Save(saved, training, evaluate, signals, every=every, last_step=last_step)


def test_a_checkpoint_holds_the_open_window_and_the_next_process_goes_on_with_it():
    saved, memory = Saved(), Memory()
    first = saver(hooks.Signals(), saved)
    feed(first.log, LOSSES[:3], 1)
    first.on_state(3, state(), Late())
    second = saver(hooks.Signals(), saved, memory)
    second.recall(saved.calls[0][1])
    feed(second.log, LOSSES[3:], 1, start=3)
    assert memory.records[0]["loss"] == 3.5  # of steps 3 and 4, one in each process


def test_a_checkpoint_waits_for_the_metrics_before_it():
    read, late = [], Late()
    late.push(jnp.ones(()), read.append)
    saver(hooks.Signals(), Saved()).on_state(3, state(), late)
    assert read == [1.0]


def test_checkpoints_are_due_at_multiples_and_at_the_end():
    hook = saver(hooks.Signals(), Saved())
    assert [step for step in range(1, 11) if hook.due(step)] == [4, 8, 10]


def test_checkpoints_keep_their_distance_but_for_the_last(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(hooks.time, "monotonic", lambda: now[0])
    evaluate = hooks.Evaluate(lambda _: [], [], steps_per_epoch=5, last_step=12)
    hook = hooks.Save(
        Saved(),  # pyright: ignore[reportArgumentType]
        log(Memory()),
        evaluate,
        hooks.Signals(),
        every=4,
        last_step=12,
        pause=10.0,
    )
    assert [step for step in range(1, 13) if hook.due(step)] == [12]
    now[0] += 10
    assert hook.due(4)
    hook.on_state(4, state(), Late())
    now[0] += 9
    assert not hook.due(8)
    now[0] += 1
    assert hook.due(8)


def test_a_state_that_is_no_number_is_not_saved():
    saved = Saved()
    with pytest.raises(hooks.NonFiniteError, match="a parameter is NaN or infinite after step 3"):
        saver(hooks.Signals(), saved).on_state(3, state(value=np.nan), Late())
    assert saved.calls == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_at_the_next_chance_and_ends_the_run(number):
    saved = Saved()
    before = signal.getsignal(number)
    with hooks.Signals() as signals:
        hook = saver(signals, saved)
        assert not hook.due(3)
        os.kill(os.getpid(), number)
        assert hook.due(3)
        with pytest.raises(hooks.InterruptedRunError, match=f"stopped by {number.name} after step 3") as stop:
            hook.on_state(3, state(), Late())
        assert stop.value.signal == number
        assert signal.getsignal(number) == before  # so the second of a kind acts at once
    assert signal.getsignal(number) == before
    assert [call[0] for call in saved.calls] == [3]


def test_a_signal_in_the_last_step_lets_the_run_end():
    with hooks.Signals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        saver(signals, Saved(), last_step=3).on_state(3, state(), Late())


class Board:
    def __init__(self):
        self.calls = []

    def histograms(self, step, arrays, prefix):
        self.calls.append((step, prefix, {name: array.tolist() for name, array in arrays.items()}))

    def images(self, step, _images, labels, predictions, _classes):
        self.calls.append((step, predictions.tolist(), labels.tolist()))


def test_inspection_shows_weights_gradients_and_predictions():
    board = Board()
    hook = hooks.Inspect(
        board,  # pyright: ignore[reportArgumentType]
        lambda s: jax.tree.map(lambda w: 2 * w, s.params),
        lambda _: jnp.array([1]),
        np.zeros((1, 2, 2, 1), np.uint8),
        np.array([0]),
        ("a", "b"),
        steps_per_epoch=5,
        last_step=12,
        pause=1e9,
    )
    assert [step for step in range(1, 13) if hook.due(step)] == [12]
    hook.on_state(12, state(), Late())
    assert board.calls == [(12, "weights", {"w": [1.0]}), (12, "gradients", {"w": [2.0]}), (12, [1], [0])]
