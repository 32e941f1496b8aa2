import jax.numpy as jnp
import numpy as np

from jaxdl.data.loader import Chunk
from jaxdl.engine.loop import Hook, Late, fit

CHUNKS = [Chunk(0, 2, np.array([1, 2])), Chunk(2, 3, np.array([3])), Chunk(3, 5, np.array([4, 5]))]


def run(state, items):
    return state + items.sum(), {"loss": (jnp.asarray(items), jnp.ones(len(items)))}


class Recorder(Hook):
    def __init__(self, events, due=()):
        self.events, self.steps = events, due

    def on_metrics(self, chunk, metrics):
        assert isinstance(metrics["loss"][0], np.ndarray)
        self.events.append(("metrics", chunk.stop, metrics["loss"][0].tolist()))

    def due(self, step):
        return step in self.steps

    def on_state(self, step, state, late):
        self.events.append(("state", step, int(state)))
        late.push(jnp.asarray(step), lambda value: self.events.append(("late", int(value))))


def test_metrics_come_one_chunk_late_and_none_is_lost():
    events = []
    assert int(fit(jnp.asarray(0), run, CHUNKS, [Recorder(events, due=(3,))])) == 15
    assert events == [
        ("metrics", 2, [1, 2]),  # read when the second chunk has been started
        ("state", 3, 6),
        ("metrics", 3, [3]),  # before what the hook pushed behind it
        ("late", 3),
        ("metrics", 5, [4, 5]),
    ]


def test_hooks_run_in_their_order():
    events = []
    fit(jnp.asarray(0), run, CHUNKS[:1], [Recorder(events), Recorder(events, due=(2,))])
    assert [event[0] for event in events] == ["state", "metrics", "metrics", "late"]


def test_a_hook_that_overrides_nothing_does_nothing():
    assert int(fit(jnp.asarray(1), run, CHUNKS[:1], [Hook()])) == 4


def test_flush_reads_what_is_left_once():
    seen, late = [], Late()
    late.push(jnp.asarray(1), seen.append)
    late.flush()
    late.flush()
    assert seen == [1]
