"""Which frames of a video are given to the model, and what hint the others get."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from keras_makeavid.validation import shown

_PATTERN = re.compile(r"repeated(?: every (\d+))?|first(?: (\d+))?|every (\d+)")
_FIXED = ("ends", "random", "none")
# What published models are trained with.
REPEATED = {"repeated": 1.0}


@dataclasses.dataclass(frozen=True)
class GivenFrames:
    """A mixture of patterns, by which a model learns to fill in frames.

    A frame that is given has mask 0 and its own latents as hint. Any other has mask 1
    and the latents of the given frame that is nearest in time, or zeros if there is
    none (docs/control.md). The patterns:

    - `"first"`, `"first 4"`: the first frame, or the first 4.
    - `"ends"`: the first and the last frame.
    - `"every 4"`: frames 0, 4, 8 and so on.
    - `"random"`: each frame with a probability that is drawn for the video.
    - `"none"`.
    - `"repeated"`, `"repeated every 4"`: the published form. The first frame, or every
      fourth, is the hint of all that follow, and the mask is 0 everywhere.

    Args:
        shares: The share of each pattern, positive numbers of any sum.

    Example:
    ```python
    GivenFrames({"first": 2, "ends": 1, "every 4": 1}).masked  # True
    ```
    """

    shares: Mapping[str, float]

    def __post_init__(self) -> None:
        shares = self.shares
        if not isinstance(shares, Mapping) or not shares:
            raise ValueError(_wrong(shares))
        for pattern, share in shares.items():
            match = isinstance(pattern, str) and _PATTERN.fullmatch(pattern)
            numbers = [int(n) for n in match.groups() if n] if match else []
            number = isinstance(share, int | float) and not isinstance(share, bool)
            if not (match or pattern in _FIXED) or 0 in numbers:
                raise ValueError(_wrong(shares))
            if not number or not 0 < share < float("inf"):
                raise ValueError(_wrong(shares))
        plain = {pattern: float(share) for pattern, share in shares.items()}
        object.__setattr__(self, "shares", plain)

    def __hash__(self) -> int:
        return hash(tuple(self.shares.items()))

    @classmethod
    def parse(cls, value: Any) -> GivenFrames:
        """Make it of a table of shares, as a recipe has it."""
        return cls(value)

    @property
    def masked(self) -> bool:
        """Whether the model learns by the mask which frames are given."""
        return not all(pattern.startswith("repeated") for pattern in self.shares)

    def tables(self, frames: int) -> tuple[list[list[bool]], list[list[int]]]:
        """What each of P patterns gives of F frames, but for what is drawn.

        It is `(P, F)`, which frames have mask 0, and `(P, F)`, which frame is the hint
        of each, or -1 where that is the nearest given one.
        """
        given = [[_is_given(p, f, frames) for f in range(frames)] for p in self.shares]
        return given, [_held(pattern, frames) for pattern in self.shares]


def _is_given(pattern: str, frame: int, frames: int) -> bool:
    if pattern.startswith("first"):
        return frame < _number(pattern)
    if pattern.startswith("every"):
        return frame % _number(pattern) == 0
    if pattern == "ends":
        return frame in (0, frames - 1)
    return pattern.startswith("repeated")


def _held(pattern: str, frames: int) -> list[int]:
    if not pattern.startswith("repeated"):
        return [-1] * frames
    spacing = _number(pattern, frames)
    return [frame - frame % spacing for frame in range(frames)]


def _number(pattern: str, default: int = 1) -> int:
    found = re.search(r"\d+", pattern)
    return int(found[0]) if found else default


_EXPECTED = (
    "a table of positive shares of 'first', 'first N', 'ends', 'every N', 'random', "
    "'none', 'repeated' or 'repeated every N', such as {'first': 0.5, 'ends': 0.5}"
)
# The type of a key in a recipe or configuration.
Shares = Annotated[GivenFrames, Meta(description=_EXPECTED)]


def _wrong(shares: Any) -> str:
    return f"given_frames must be {_EXPECTED}. Received: {shown(shares)}"
