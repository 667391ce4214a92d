"""What is good enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_makeavid.evaluation.evaluation import ATTRIBUTES, Evaluation

SPLITS = ("seen", "held_out")


@dataclass(frozen=True)
class Thresholds:
    """The bar that an evaluation must reach: by default that of the small model.

    Rates are pairs: of triples that training shows, and of those held out of it.

    Args:
        colour: least rates of right colours.
        shape: least rates of right shapes.
        motion: least rates of right motions.
        background: least rates of right backgrounds.
        flicker: largest mean flicker, in levels of 255.
        hint_psnr: least mean agreement of first frames with their hints, in dB.

    Raises:
        ValueError: if a rate does not lie in 0 to 1.

    Example:
    ```python
    evaluation = evaluate(MotionClips(seed=1).clip(index) for index in range(8))
    Thresholds().failures(evaluation)  # []
    ```
    """

    colour: Sequence[float] = (0.98, 0.95)
    shape: Sequence[float] = (0.90, 0.80)
    motion: Sequence[float] = (0.95, 0.88)
    background: Sequence[float] = (0.0, 0.0)
    flicker: float = float("inf")
    hint_psnr: float = 20.0

    def __post_init__(self):
        for name in ATTRIBUTES:
            rates = getattr(self, name)
            if len(rates) != 2 or not all(0 <= rate <= 1 for rate in rates):
                raise ValueError(
                    f"The thresholds of {name} must be two rates from 0 to 1. "
                    f"Received: {rates!r}"
                )

    def rate(self, attribute: str, split: str) -> float:
        """The least rate of an attribute in a split, `"seen"` or `"held_out"`."""
        return getattr(self, attribute)[SPLITS.index(split)]

    def failures(self, evaluation: Evaluation) -> list[str]:
        """What is below the bar.

        Args:
            evaluation: to be judged. What it has no videos of is no failure.

        Returns:
            A sentence for each; none if all is well.
        """
        failures = []
        for split in SPLITS:
            part = evaluation.of_split(split)
            for name in ATTRIBUTES:
                least = self.rate(name, split)
                if part.rate(name) < least:
                    failures.append(
                        f"{name} of {split.replace('_', '-')} triples: "
                        f"{part.rate(name):.1%}, below {least:.0%}"
                    )
        if evaluation.flicker > self.flicker:
            failures.append(
                f"flicker: {evaluation.flicker:.1f} levels, above {self.flicker:g}"
            )
        if evaluation.hint_psnr < self.hint_psnr:
            failures.append(
                f"agreement with the hint: {evaluation.hint_psnr:.1f} dB, below "
                f"{self.hint_psnr:g}"
            )
        return failures
