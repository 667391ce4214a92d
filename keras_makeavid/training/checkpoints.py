"""Checkpoints of a run, through Orbax."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_makeavid.training.checksums import checksums
from keras_makeavid.training.hosts import Hosts
from keras_makeavid.training.orbax import import_orbax

_UNFINISHED = ".orbax-checkpoint-tmp"
# How tensorstore tells failures of the system, which leave the file as it is.
_OF_THE_SYSTEM = ("RESOURCE_EXHAUSTED", "[OS error")


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is not what was written."""


class Checkpoints:
    """The checkpoints in a folder: written aside, in the background, and checked.

    A checkpoint appears whole or not at all. What is read is compared with checksums
    of what was written: Orbax itself does not notice a flipped bit. A failure to write
    (a full disk) is reported and leaves the older ones. A failure to read that is none
    of the checkpoint's (no memory, too many open files) is raised as it is.

    Where several processes train, each writes and reads its own parts of the arrays,
    and all call the same methods in the same order. There a failure to write ends the
    run: not all processes know of it.

    Args:
        folder: made if missing; of this class alone.
        keep: how many of the newest are kept.
        keep_best: how many of those with the lowest loss are kept besides.
        report: told of checkpoints that could not be written.
        hosts: the processes of the run.

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
        hosts: Hosts | None = None,
    ):
        self._orbax = import_orbax()
        self.folder = Path(folder).absolute()
        self._keep = keep
        self._keep_best = keep_best
        self._report = report
        self._hosts = hosts or Hosts()
        self._writing = None
        self._losses: dict[int, float] = {}
        self._extra: set[int] = set()
        self._open()
        for step in self.steps():
            # One that is damaged is told of when it is to be read.
            with contextlib.suppress(CheckpointError):
                self._note(step, self._read_record(step))

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
        extra: bool = False,
    ) -> None:
        """Begin to write a checkpoint; its arrays may change when this returns.

        Args:
            step: its number; one that is there already stays as it is.
            state: arrays by name.
            facts: what JSON can hold, to be read before the arrays.
            loss: by which the best are kept.
            extra: whether it is kept only while it is the newest, in no other's place.
        """
        if step in self.steps():
            return
        record = {
            "facts": dict(facts),
            "checksums": checksums(state),
            "loss": loss if loss is not None and math.isfinite(loss) else None,
            "extra": extra,
        }
        args = self._orbax.args.Composite(
            state=self._orbax.args.StandardSave(dict(state)),
            facts=self._orbax.args.JsonSave({**record, "sha256": _sha256(record)}),
        )
        self._note(step, record)
        self._writing = step
        try:
            self._manager.save(step, args=args)
        except Exception as error:
            self._failed(error)

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
            CheckpointError: if they are missing, or not those that were written.
        """
        return self._read_record(step)["facts"]

    def restore(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Read the arrays of a checkpoint.

        Args:
            step: of the checkpoint.
            like: what `state_like` gives: the shape, dtype and place of each array.

        Raises:
            CheckpointError: if they are missing, others than asked for, or not those
                that were written.
        """
        args = self._orbax.args.Composite(
            state=self._orbax.args.StandardRestore(dict(like))
        )
        state = self._read_everywhere(step, args)
        written = self._read_record(step)["checksums"]
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
        aside = self.folder.with_name(f"{self.folder.name}-unreadable")
        self._hosts.first_does(lambda: aside.mkdir(exist_ok=True))
        number = sum(path.name.startswith(_name(step)) for path in aside.iterdir())
        target = aside / f"{_name(step)}.{number}"
        self._move(step, target)
        return target

    def remove(self, step: int) -> None:
        """Remove a checkpoint; if that is interrupted, it is not half there."""
        self._move(step, self.folder / f"{_name(step)}{_UNFINISHED}")

    def close(self) -> None:
        """Finish what is being written."""
        self.wait()
        self._manager.close()

    def _read_everywhere(self, step, args):
        error = None
        try:
            with _damage_told():
                state = dict(self._manager.restore(step, args=args).state)
        except CheckpointError as damage:
            error = damage
        # Before the checksums, which all processes compute together.
        if self._hosts.any(error is not None):
            raise error or CheckpointError("another process cannot read its parts")
        return state

    def _read_record(self, step):
        args = self._orbax.args.Composite(facts=self._orbax.args.JsonRestore())
        with _damage_told():
            record = dict(self._manager.restore(step, args=args).facts)
            if record.pop("sha256") != _sha256(record):
                raise CheckpointError("its facts are not what was written")
        return record

    def _note(self, step, record):
        """Remember by what a checkpoint is kept."""
        self._losses.pop(step, None)
        self._extra.discard(step)
        if record["loss"] is not None:
            self._losses[step] = record["loss"]
        if record["extra"]:
            self._extra.add(step)

    def _move(self, step, target):
        self.wait()
        self._manager.close()
        self._hosts.first_does(lambda: os.replace(self.folder / _name(step), target))
        self._open()

    def _failed(self, error):
        step, self._writing = self._writing, None
        if self._hosts.count > 1:
            raise OSError(
                f"Checkpoint {step} could not be written: {_first_line(error)}"
            ) from error
        # What Orbax has written of it goes; its own records no longer hold.
        with contextlib.suppress(Exception):
            self._manager.close()
        self._open()
        self._report(
            f"Checkpoint {step} could not be written: {_first_line(error)}. "
            f"There are {sorted(self._manager.all_steps())}"
        )

    def _open(self):
        self._hosts.first_does(self._remove_unfinished)
        self._manager = self._orbax.CheckpointManager(
            self.folder,
            item_names=("state", "facts"),
            options=self._orbax.CheckpointManagerOptions(
                step_format_fixed_length=len(_name(0)),
                preservation_policy=_Preservation(self._kept),
            ),
        )

    def _remove_unfinished(self):
        # What a kill or a full disk left unfinished. Orbax finds it only later.
        for unfinished in self.folder.glob(f"*{_UNFINISHED}*"):
            # After a failure Orbax may be at work in it still: the rest goes next time.
            shutil.rmtree(unfinished, ignore_errors=True)

    def _kept(self, steps):
        # Not by Orbax's own policies: they read the losses of all checkpoints at once,
        # and one that is damaged would keep the others from being read.
        regular = [step for step in steps if step not in self._extra]
        known = [step for step in regular if step in self._losses]
        best = sorted(known, key=self._losses.get)[: self._keep_best]
        return {*steps[-1:], *regular[-self._keep :], *best}


class _Preservation:
    """What Orbax asks which checkpoints to keep."""

    def __init__(self, kept):
        self._kept = kept

    def should_preserve(self, checkpoints, *, context):
        kept = self._kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]


@contextlib.contextmanager
def _damage_told():
    """Let errors of damaged files be `CheckpointError`, and no others."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        cause = error
        # What Orbax makes of any failure to read an array of JAX.
        while type(cause) is Exception and cause.__cause__ is not None:
            cause = cause.__cause__
        if not _is_damage(cause):
            raise
        raise CheckpointError(_first_line(cause)) from error


def _is_damage(error):
    if isinstance(error, OSError):
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    of_the_system = any(sign in str(error) for sign in _OF_THE_SYSTEM)
    return isinstance(error, ValueError | LookupError | TypeError) and not of_the_system


def _name(step):
    return f"{step:08}"


def _sha256(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _first_line(error):
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # Its cause is at the end.
    return line if len(line) < 300 else f"{line[:120]} ... {line[-160:]}"
