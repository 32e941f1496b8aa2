"""Where the records of a run go: JSON lines and the console. TensorBoard has a file of its own."""

import contextlib
import errno
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from jaxdl.files import write_atomic

# {"kind": "train", "step": ..., "epoch": ..., "loss": ..., ...}: Python numbers, already on the host. What the
# test images gave is of the kind "eval", what held-out training images gave of the kind "validation".
Record = Mapping[str, Any]

# Wall-clock values: all that may differ between a resumed run and an undisturbed one.
TIMING = frozenset({"steps_per_second", "time"})

_MEASURED = {"eval": "Test", "validation": "Validation"}
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_REFRESH = 0.1  # seconds between two states of the progress bar
_GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe, a terminal that hung up


class Logger(Protocol):
    """What the training loop asks of every logger."""

    def write(self, record: Record) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """One strict JSON object a line, in the file as soon as `write` returns.

    JSON has no NaN and no infinities: they are the strings "NaN", "Infinity", "-Infinity", as `float` reads them.

    Args:
      path: the file, ``metrics.jsonl``.
      resume_step: None starts the file anew; a number keeps the records up to that step, and appends.

    Raises:
      OSError: by any method, when the disk is full or fails.
      ValueError: when the file to resume holds a line that is no record.
    """

    def __init__(self, path: str | os.PathLike[str], resume_step: int | None = None) -> None:
        path = Path(path)
        if resume_step is not None and path.exists():
            _keep_until(path, resume_step)
        self._file = path.open("wb" if resume_step is None else "ab", buffering=0)

    def write(self, record: Record) -> None:
        """Appends one record."""
        strict = {name: _strict(value) for name, value in record.items()}
        write_all(self._file, json.dumps(strict, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        """Puts everything on the disk. A second call does nothing."""
        close_synced(self._file)


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The records of a `JsonLines` file, NaN and infinities as floats again; a half-written last line is left out.

    Raises:
      ValueError: when another line is no record, with its number.
    """
    return [
        {name: float(value) if value in _NOT_FINITE else value for name, value in record.items()}
        for _, record in _lines(Path(path))
    ]


def write_all(file: io.FileIO, data: bytes) -> None:
    """Writes to an unbuffered file: a full disk is an OSError here, and `close` has nothing left to write."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def close_synced(file: io.FileIO) -> None:
    """Waits until the content is on the disk, then closes; a file already closed is left alone."""
    if not file.closed:
        with file:
            os.fsync(file.fileno())


def _strict(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                yield line.rstrip(), record
                continue
        if line.endswith(b"\n"):
            raise ValueError(f"{path}, line {number}: expected a JSON object, got {line[:40]!r}; delete the line")


def _keep_until(path: Path, step: int) -> None:
    content = b"".join(line + b"\n" for line, record in _lines(path) if record["step"] <= step)
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


class Console:
    """What a person watches: a progress bar in a terminal, the classic lines everywhere else.

    A reader that goes away (``| head``) silences the console, and the training goes on. There are no colours.

    Args:
      total_steps, steps_per_epoch, epochs: of the whole run.
      first_step: where a resumed run begins.
      stream: standard output by default.
      quiet: show nothing at all.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        epochs: int,
        *,
        first_step: int = 0,
        stream: TextIO | None = None,
        quiet: bool = False,
    ) -> None:
        self._stream: Any = stream if stream is not None else sys.stdout
        self._steps_per_epoch, self._epochs = steps_per_epoch, epochs
        self._quiet = quiet or self._stream is None  # Python has no sys.stdout where the shell closed it
        self._bar: Any = None
        self._latest: Any = None
        self._due = 0.0
        if not self._quiet and _is_terminal(self._stream):
            self._bar = _progress_bar(self._stream, total_steps, first_step)

    def progress(self, step: int, loss: float, accuracy: float) -> None:
        """Moves the bar. Cheap enough for every chunk of steps: it draws at most ten times a second."""
        self._latest = step, loss, accuracy
        if self._bar is not None and time.monotonic() >= self._due:
            self._draw()

    def write(self, record: Record) -> None:
        """Shows an evaluation; shows a training record where there is no bar."""
        epoch, step = self._position(record["step"])
        if record["kind"] in _MEASURED:
            name = _MEASURED[record["kind"]]
            scores = f"{name} loss: {record['loss']:.4f}, {name} accuracy: {record['accuracy']:.2%}"
            self.message(f"{epoch}, {scores}")
        elif self._bar is None:
            self.message(f"{epoch}, Step [{step}/{self._steps_per_epoch}], Loss: {record['batch_loss']:.4f}")

    def message(self, text: str) -> None:
        """Shows one line, above the bar where there is one."""
        if self._quiet:
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
        with self._reader_may_leave():
            if self._bar is None:
                self._stream.write(text + "\n")
            else:
                self._bar.write(text, file=self._stream)
            self._stream.flush()

    def close(self) -> None:
        """Leaves the bar behind in its last state; messages may still follow."""
        if self._bar is not None:
            if self._latest is not None:
                self._draw()
            with self._reader_may_leave():
                self._bar.close()
            self._bar = None

    def _draw(self) -> None:
        step, loss, accuracy = self._latest
        self._due = time.monotonic() + _REFRESH
        with self._reader_may_leave():
            self._bar.set_description_str(self._position(step)[0], refresh=False)
            self._bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.2%}", refresh=False)
            self._bar.update(step - self._bar.n)

    def _position(self, step: int) -> tuple[str, int]:
        epoch, index = divmod(step - 1, self._steps_per_epoch)
        return f"Epoch [{epoch + 1}/{self._epochs}]", index + 1

    @contextlib.contextmanager
    def _reader_may_leave(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self._quiet = True
            if self._bar is not None:
                self._bar.disable = True
            _discard(self._stream)


def _is_terminal(stream: Any) -> bool:
    """Whether a bar can be drawn: a dumb terminal cannot go back in a line, some have no width."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except OSError:
        return False
    return columns > 0 and os.environ.get("TERM") != "dumb"


def _progress_bar(stream: Any, total: int, first: int) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        # With miniters=1 its monitor thread has nothing to do, and an interrupt at a bad moment lets it wait for
        # ever for a lock: the process would not end.
        monitor_interval = 0

    return Bar(
        total=total,
        initial=first,
        file=stream,
        unit=" steps",
        bar_format="{desc} |{bar}| {n}/{total} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        mininterval=0,  # `progress` already spaces the updates
        miniters=1,
        dynamic_ncols=True,
    )


def _discard(stream: Any) -> None:
    """What the stream still buffers goes nowhere, or the interpreter would complain about it when it exits."""
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), number)
