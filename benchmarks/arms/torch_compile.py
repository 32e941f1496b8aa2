"""``torch.compile`` of model and loss, forward and backward; the fused optimizer is one kernel as it is.

On a CPU, compiling the whole step or the optimizer as well made no difference that stood out of the noise.

Source: https://docs.pytorch.org/tutorials/intermediate/torch_compile_tutorial.html
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.arms.torch_parts import Torch
from benchmarks.process import serve


class Compiled(Torch):
    """Shapes are fixed: the ragged last batch is a program of its own."""

    mode: ClassVar[str] = "default"

    def __init__(self, workload: str, folder: Path) -> None:
        if not torch.cuda.is_available() and not shutil.which(os.environ.get("CXX", "g++")):
            sys.exit("no C++ compiler, which torch.compile needs on a CPU")
        super().__init__(workload, folder)
        self.predict, self.loss, self.judge = (
            torch.compile(part, mode=self.mode, dynamic=False) for part in (self.predict, self.loss, self.judge)
        )

    def facts(self) -> dict[str, Any]:
        found = super().facts()
        return {"setup": found["setup"] | {"mode": self.mode}}


if __name__ == "__main__":
    serve(Compiled)
