"""What an explanation is."""

import dataclasses

# What is left of an error that is explained: rounding, and a constant that is known to a few digits less.
EXPLAINED = 1e-8
# Explanation -> row of `parity.catalogue`, of those that are a difference between the frameworks.
ROWS = {
    "transposed weight": 7,
    "flatten order": 8,
    "gate order": 9,
    "BatchNorm momentum": 11,
    "biased running variance": 12,
    "norm eps": 13,
    "fast variance": 14,
    "gelu form": 16,
    "padding": 17,
    "asymmetric padding": 17,
    "attention mask polarity": 21,
    "resize": 25,
    "class weights": 28,
    "ignored labels": 28,
    "batchmean": 32,
    "RMSprop decay": 36,
    "AMSGrad": 38,
    "weight decay default": 40,
    "decay kind": 40,
    "dampening": 40,
    "accumulated gradients": 43,
    "gradients not accumulated": 43,
}


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a port does instead.

    Attributes:
      name: of `parity.mutate` where it is one of those faults.
      fix: what to change in the port, in a line.
    """

    name: str
    fix: str

    @property
    def advice(self) -> str:
        """The fix, and where the catalogue has both rules."""
        return f"{self.fix} (catalogue row {ROWS[self.name]})" if self.name in ROWS else self.fix


# With what is left of the error under it.
Candidate = tuple[Explanation, float]
