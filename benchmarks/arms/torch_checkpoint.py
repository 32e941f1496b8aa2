"""``torch.save`` and ``torch.load`` of what a run needs to go on, and of its weights alone."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.arms.torch_parts import device
from benchmarks.process import serve
from parity.twins.cnn import TorchCNN

NETS: Mapping[str, Callable[[int], nn.Module]] = {
    "net": lambda hidden: nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    "cnn": lambda _: TorchCNN(),
}


class Files:
    """A network and Adam's state after a step; arguments as `benchmarks.arms.jaxdl_checkpoint.Files`."""

    def __init__(self, case: str, folder: Path) -> None:
        name, hidden = case.split(":")
        self.folder, self.device = folder, device()
        self.nets = [NETS[name](int(hidden)).to(self.device) for _ in range(2)]  # one to save, one to restore into
        self.optimizers = [torch.optim.Adam(net.parameters()) for net in self.nets]
        for parameter in self.nets[0].parameters():
            parameter.grad = parameter.detach().clone()
        self.optimizers[0].step()

    def run(self) -> dict[str, float]:
        """Seconds of each part, which `benchmarks.tasks.checkpoint` explains.

        Raises:
          ValueError: what was restored is not what was saved.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            return self._checkpoint(Path(place) / "checkpoint.pt") | self._weights(Path(place) / "weights.pt")

    def _checkpoint(self, path: Path) -> dict[str, float]:
        (net, other), (optimizer, other_optimizer) = self.nets, self.optimizers
        started = time.perf_counter()
        waits = save({"step": 1, "net": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
        safe = time.perf_counter() - started
        started = time.perf_counter()
        found = torch.load(path, map_location=self.device)
        other.load_state_dict(found["net"])
        other_optimizer.load_state_dict(found["optimizer"])
        self._wait()
        restore = time.perf_counter() - started
        _check(net.state_dict(), other.state_dict())
        for one, again in zip(optimizer.state.values(), other_optimizer.state.values(), strict=True):
            _check(one, again)
        return {"training waits": waits, "safe on disk": safe, "restored": restore}

    def _weights(self, path: Path) -> dict[str, float]:
        net, other = self.nets
        started = time.perf_counter()
        save(net.state_dict(), path)
        saved = time.perf_counter() - started
        started = time.perf_counter()
        other.load_state_dict(torch.load(path, map_location=self.device))
        self._wait()
        load = time.perf_counter() - started
        _check(net.state_dict(), other.state_dict())
        return {"weights safe on disk": saved, "weights loaded": load}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def save(content: Any, path: Path) -> float:
    """``torch.save`` beside the path, flushed to the disk and moved into place, as jaxdl writes its files.

    Returns:
      The seconds that ``torch.save`` took.
    """
    temporary, started = path.with_suffix(".tmp"), time.perf_counter()
    torch.save(content, temporary)
    seconds = time.perf_counter() - started
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    return seconds


def _check(saved: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    wrong = [name for name in saved if name not in found or not torch.equal(saved[name], found[name])]
    if wrong:
        raise ValueError(f"what was restored is not what was saved: {', '.join(wrong)}")


if __name__ == "__main__":
    serve(Files)
