"""Where a run is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Position:
    """The place in a recipe that a checkpoint belongs to.

    Args:
        phase: number of the phase.
        step: steps of that phase that are done.
        data_shift: how many batches the data is ahead of the steps, after roll-backs.
        rollbacks: what is known of each roll-back so far.
        skipped_in_a_row: how many of the last steps were skipped.
    """

    phase: int = 0
    step: int = 0
    data_shift: int = 0
    rollbacks: tuple[Mapping[str, Any], ...] = ()
    skipped_in_a_row: int = 0

    def as_json(self) -> dict[str, Any]:
        """The fields, for a checkpoint."""
        return {**dataclasses.asdict(self), "rollbacks": list(self.rollbacks)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Position:
        """The position that `as_json` gave."""
        return cls(**{**values, "rollbacks": tuple(values["rollbacks"])})
