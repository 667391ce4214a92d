"""Checkpoints of a run, through Orbax."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_makeavid.training.checksums import checksums
from keras_makeavid.training.orbax import import_orbax

_UNFINISHED = ".orbax-checkpoint-tmp"


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is not what was written."""


class Checkpoints:
    """The checkpoints in a folder: written aside, in the background, and checked.

    A checkpoint appears whole or not at all. What is read is compared with checksums
    of what was written: Orbax itself does not notice a flipped bit. A failure to write
    (a full disk) is reported and leaves the older ones.

    Args:
        folder: made if missing; of this class alone.
        keep: how many of the newest are kept.
        keep_best: how many of those with the lowest loss are kept besides.
        report: told of checkpoints that could not be written.

    Example:
    ```python
    checkpoints = Checkpoints("checkpoints", keep=2)
    checkpoints.save(100, {"weights": np.ones(3)}, {"epoch": 1})
    checkpoints.wait()
    checkpoints.restore(100, {"weights": np.zeros(3)})
    checkpoints.close()
    ```
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        keep: int = 3,
        keep_best: int = 0,
        report: Callable[[str], None] = print,
    ):
        self._orbax = import_orbax()
        self.folder = Path(folder).absolute()
        self._keep = keep
        self._keep_best = keep_best
        self._report = report
        self._writing = None
        self._open()

    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there whole, in their order."""
        self.wait()
        return sorted(self._manager.all_steps())

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        facts: Mapping[str, Any],
        loss: float | None = None,
        wait: bool = False,
    ) -> None:
        """Begin to write a checkpoint; its arrays may change when this returns.

        Args:
            step: its number; one that is there already stays as it is.
            state: arrays by name.
            facts: what JSON can hold, to be read before the arrays.
            loss: by which the best are kept.
            wait: whether to return when it is written.
        """
        if step in self.steps():
            return
        args = self._orbax.args.Composite(
            state=self._orbax.args.StandardSave(dict(state)),
            facts=self._orbax.args.JsonSave(
                {"facts": dict(facts), "checksums": checksums(state)}
            ),
        )
        known = loss is not None and math.isfinite(loss)
        self._writing = step
        try:
            self._manager.save(
                step, args=args, metrics={"loss": float(loss)} if known else None
            )
        except Exception as error:
            self._failed(error)
        if wait:
            self.wait()

    def wait(self) -> bool:
        """Return when nothing is being written any more.

        Returns:
            Whether what was being written is there now.
        """
        if self._writing is None:
            return True
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._failed(error)
            return False
        self._writing = None
        return True

    def check(self) -> None:
        """Report a failure to write that has happened by now, without waiting."""
        if self._writing is None:
            return
        try:
            self._manager.check_for_errors()
        except Exception as error:
            self._failed(error)

    def facts(self, step: int) -> dict[str, Any]:
        """Read the facts of a checkpoint.

        Raises:
            CheckpointError: if they cannot be read.
        """
        return self._read_facts(step)["facts"]

    def restore(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Read the arrays of a checkpoint.

        Args:
            step: of the checkpoint.
            like: what `state_like` gives: the shape, dtype and place of each array.

        Raises:
            CheckpointError: if they cannot be read, are others than asked for, or not
                those that were written.
        """
        args = self._orbax.args.Composite(
            state=self._orbax.args.StandardRestore(dict(like))
        )
        try:
            state = dict(self._manager.restore(step, args=args).state)
        except Exception as error:
            raise CheckpointError(_first_line(error)) from error
        written = self._read_facts(step)["checksums"]
        read = checksums(state)
        changed = [name for name in written if read.get(name) != written[name]]
        if changed:
            raise CheckpointError(
                f"{len(changed)} of its {len(written)} arrays are not what was written"
            )
        return state

    def set_aside(self, step: int) -> Path:
        """Move a checkpoint out of the way, so that its step can be written again.

        Returns:
            Where it is now.
        """
        self._manager.close()
        aside = self.folder.with_name(f"{self.folder.name}-unreadable")
        aside.mkdir(exist_ok=True)
        number = sum(path.name.startswith(_name(step)) for path in aside.iterdir())
        target = aside / f"{_name(step)}.{number}"
        os.replace(self.folder / _name(step), target)
        self._open()
        return target

    def close(self) -> None:
        """Finish what is being written."""
        self.wait()
        self._manager.close()

    def _read_facts(self, step):
        args = self._orbax.args.Composite(facts=self._orbax.args.JsonRestore())
        try:
            read = self._manager.restore(step, args=args).facts
            return {"facts": read["facts"], "checksums": read["checksums"]}
        except Exception as error:
            raise CheckpointError(_first_line(error)) from error

    def _failed(self, error):
        step, self._writing = self._writing, None
        # What Orbax has written of it goes; its own records no longer hold.
        with contextlib.suppress(Exception):
            self._manager.close()
        self._open()
        self._report(
            f"Checkpoint {step} could not be written: {_first_line(error)}. "
            f"There are {sorted(self._manager.all_steps())}"
        )

    def _open(self):
        # What a kill or a full disk left unfinished. Orbax finds it only later.
        for unfinished in self.folder.glob(f"*{_UNFINISHED}*"):
            shutil.rmtree(unfinished)
        policies = self._orbax.checkpoint_managers.preservation_policy
        kept = [policies.LatestN(self._keep)]
        if self._keep_best:
            best = policies.BestN(
                get_metric_fn=_negative_loss,
                n=self._keep_best,
                keep_checkpoints_without_metrics=False,
            )
            kept.append(best)
        self._manager = self._orbax.CheckpointManager(
            self.folder,
            item_names=("state", "facts"),
            options=self._orbax.CheckpointManagerOptions(
                step_format_fixed_length=len(_name(0)),
                # With it Orbax keeps the losses, for `BestN` in a later process.
                best_fn=_negative_loss,
                preservation_policy=policies.AnyPreservationPolicy(kept),
            ),
        )


def _name(step):
    return f"{step:08}"


def _negative_loss(metrics):
    return -metrics["loss"]


def _first_line(error):
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # Its cause is at the end.
    return line if len(line) < 300 else f"{line[:120]} ... {line[-160:]}"
