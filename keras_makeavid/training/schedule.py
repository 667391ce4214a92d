"""The learning rate over the steps of a stage."""

from __future__ import annotations

import math

import keras
from keras import ops

DECAYS = ("constant", "cosine")


@keras.saving.register_keras_serializable(package="keras_makeavid")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to `peak`, then constant or half a cosine down to `final`.

    Args:
        peak: The rate at the end of the warm-up.
        warmup_steps: Steps of the warm-up, 0 for none.
        decay: `"constant"` or `"cosine"`.
        total_steps: Steps of the warm-up and the decay together.
        final: The rate of the last step of a cosine.

    Raises:
        ValueError: If `decay` is another, or a cosine has no steps.

    Example:
    ```python
    rate = WarmupSchedule(5e-5, 2_500, "cosine", total_steps=22_500, final=1e-8)
    float(rate(0)), float(rate(22_499))  # (2e-08, 1e-08)
    ```
    """

    def __init__(
        self,
        peak: float,
        warmup_steps: int = 0,
        decay: str = "constant",
        total_steps: int | None = None,
        final: float = 0.0,
    ):
        super().__init__()
        if decay not in DECAYS:
            raise ValueError(f"decay must be one of {DECAYS}. Received: {decay!r}")
        if decay == "cosine" and (total_steps is None or total_steps <= warmup_steps):
            raise ValueError(
                "A cosine needs total_steps above warmup_steps. Received: "
                f"total_steps={total_steps}, warmup_steps={warmup_steps}"
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.decay = decay
        self.total_steps = total_steps
        self.final = final

    def __call__(self, step):
        """Return the rate of a step, counted from 0."""
        done = ops.cast(step, "float32") + 1.0
        rate = self.peak
        if self.decay == "cosine":
            length = self.total_steps - self.warmup_steps
            progress = ops.clip((done - self.warmup_steps) / length, 0.0, 1.0)
            cosine = 0.5 * (1.0 + ops.cos(math.pi * progress))
            rate = self.final + (self.peak - self.final) * cosine
        return rate * ops.minimum(done / max(self.warmup_steps, 1), 1.0)

    def get_config(self):
        """Return the arguments."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "decay": self.decay,
            "total_steps": self.total_steps,
            "final": self.final,
        }
