"""Lengths of training, in epochs or steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"(\d+(?:\.\d+)?) (epoch|step)s?")


@dataclass(frozen=True)
class Duration:
    """A number of epochs, whole or not, or of steps.

    Args:
        amount: How many.
        unit: `"epochs"` or `"steps"`.

    Example:
    ```python
    Duration.parse("0.5 epochs").steps(steps_per_epoch=2_500)  # 1250
    ```
    """

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read a text such as `"20 epochs"`, `"0.5 epochs"` or `"1000 steps"`."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"A duration is such as '2 epochs'. Received: {text!r}")
        amount, unit = float(match[1]), f"{match[2]}s"
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"Steps must be a whole number. Received: {text!r}")
        return cls(amount, unit)

    def steps(self, steps_per_epoch: int) -> int:
        """Count the steps of this length, rounded."""
        factor = steps_per_epoch if self.unit == "epochs" else 1
        return round(self.amount * factor)

    def __str__(self) -> str:
        whole = self.amount == int(self.amount)
        amount = str(int(self.amount)) if whole else repr(self.amount)
        return f"{amount} {self.unit[:-1] if self.amount == 1 else self.unit}"
