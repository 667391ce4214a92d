"""Checkpoints of a run: its state as arrays, checked and written by Orbax."""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_makeavid.files import StrPath
from keras_makeavid.json_files import read_json
from keras_makeavid.training.distribution import Hosts

_UNFINISHED = ".orbax-checkpoint-tmp"
# How tensorstore tells failures of the system, which leave the file as it is.
_OF_THE_SYSTEM = ("RESOURCE_EXHAUSTED", "[OS error")
# What the bits of an element are read as, by its size.
_WORDS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint32"}


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or is not what was written."""


class Checkpoints:
    """The checkpoints in a folder: written aside, in the background, and checked.

    The `keep` newest are kept. What is read is compared with checksums of what was
    written: Orbax itself does not notice a flipped bit. A failure to write is reported
    and leaves the older ones.

    Of several processes, each writes and reads its own parts of the arrays. There a
    failure to write ends the run: not all processes know of it.
    """

    def __init__(
        self,
        folder: StrPath,
        keep: int = 3,
        report: Callable[[str], None] = print,
        hosts: Hosts | None = None,
    ):
        # Only those who train have it, and it takes seconds to import.
        import orbax.checkpoint

        self._ocp = orbax.checkpoint
        self.folder = Path(folder).absolute()
        self._keep = keep
        self._report = report
        self._hosts = hosts or Hosts()
        self._writing: int | None = None
        self._extra: set[int] = set()
        # After a failure some arrays answer late, maybe after the end of the run.
        self._write_failed = False
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_without_tracebacks_of_orbax())
        self._hosts.first_does(self._remove_unfinished)
        self._writer = self._open_writer()
        for step in self.steps():
            # One that is damaged is told of when it is to be read.
            with contextlib.suppress(CheckpointError):
                self._note(step, self._read_record(step)["extra"])

    def steps(self) -> list[int]:
        """The steps of the checkpoints that are there whole, in their order."""
        self.wait()
        return self._written_steps()

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        facts: Mapping[str, Any],
        extra: bool = False,
    ) -> None:
        """Begin to write a checkpoint, if it is not there; its arrays may change then.

        `facts`, such as JSON can hold, are read before the arrays. An `extra` one is
        kept only while it is the newest, and in no other's place.
        """
        if step in self.steps():
            return
        record = {
            "facts": dict(facts),
            "checksums": checksums(state),
            "extra": extra,
        }
        args = self._ocp.args.Composite(
            state=self._ocp.args.StandardSave(dict(state)),
            facts=self._ocp.args.JsonSave({**record, "sha256": _sha256(record)}),
        )
        self._note(step, extra)
        self._writing = step
        try:
            self._writer.save(self._path(step), args)
        except Exception as error:
            self._failed(error)

    def wait(self) -> bool:
        """Wait until nothing is being written; return whether that is there now."""
        if self._writing is None:
            return True
        try:
            self._writer.wait_until_finished()
        except Exception as error:
            self._failed(error)
            return False
        self._writing = None
        self._hosts.first_does(self._remove_old)
        return True

    def check(self) -> None:
        """Report a failure to write that has happened by now, without waiting."""
        if self._writing is None:
            return
        try:
            self._writer.check_for_errors()
        except Exception as error:
            self._failed(error)

    def facts(self, step: int) -> dict[str, Any]:
        """Read the facts; `CheckpointError` if they are not what was written."""
        self.wait()
        return self._read_record(step)["facts"]

    def restore(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        """Read arrays as `like` has them; `CheckpointError` if they are others."""
        self.wait()
        state, error = {}, None
        try:
            with _damage_told():
                state = _read_arrays(self._path(step) / "state", like)
        except CheckpointError as damage:
            error = damage
        # Before the checksums, which all processes compute together.
        if self._hosts.any(error is not None):
            raise error or CheckpointError("another process cannot read its parts")
        written = self._read_record(step)["checksums"]
        read = checksums(state)
        changed = [name for name in written if read.get(name) != written[name]]
        if changed:
            raise CheckpointError(
                f"{len(changed)} of its {len(written)} arrays are not what was written"
            )
        return state

    def set_aside(self, step: int) -> Path:
        """Move a checkpoint away, for its step to be written again; return where to."""
        aside = self.folder.with_name(f"{self.folder.name}-unreadable")
        self._hosts.first_does(lambda: aside.mkdir(exist_ok=True))
        name = self._path(step).name
        number = sum(path.name.startswith(name) for path in aside.iterdir())
        target = aside / f"{name}.{number}"
        self.wait()
        self._hosts.first_does(lambda: os.replace(self._path(step), target))
        return target

    def remove(self, step: int) -> None:
        """Remove a checkpoint; if that is interrupted, it is not half there."""
        self.wait()
        self._hosts.first_does(lambda: self._remove(step))

    def close(self, finish: bool = True) -> None:
        """Finish what is being written, but not where a process is gone."""
        if finish:
            self.wait()
            self._writer.close()
        if not self._write_failed:
            self._quiet.close()

    def _path(self, step):
        return self.folder / f"{step:08}"

    def _read_record(self, step):
        with _damage_told():
            record = dict(read_json(self._path(step) / "facts" / "metadata"))
            if record.pop("sha256") != _sha256(record):
                raise CheckpointError("its facts are not what was written")
        return record

    def _note(self, step, extra):
        (self._extra.add if extra else self._extra.discard)(step)

    def _failed(self, error):
        step, self._writing = self._writing, None
        self._write_failed = True
        if self._hosts.count > 1:
            problem = f"Checkpoint {step} could not be written"
            raise OSError(f"{problem}: {_first_line(error)}") from error
        with contextlib.suppress(Exception):
            self._writer.close()
        self._remove_unfinished()
        self._writer = self._open_writer()
        self._report(
            f"Checkpoint {step} could not be written: {_first_line(error)}. "
            f"There are {self._written_steps()}"
        )

    def _open_writer(self):
        self._hosts.first_does(lambda: self.folder.mkdir(parents=True, exist_ok=True))
        return self._ocp.AsyncCheckpointer(self._ocp.CompositeCheckpointHandler())

    def _written_steps(self):
        names = [path.name for path in self.folder.iterdir()]
        return sorted(int(name) for name in names if name.isdecimal())

    def _remove_unfinished(self):
        for unfinished in self.folder.glob(f"*{_UNFINISHED}*"):
            # After a failure Orbax may be at work in it still: the rest goes next time.
            shutil.rmtree(unfinished, ignore_errors=True)

    def _remove_old(self):
        steps = self._written_steps()
        regular = [step for step in steps if step not in self._extra]
        for step in {*steps} - {*steps[-1:], *regular[-self._keep :]}:
            self._remove(step)

    def _remove(self, step):
        path = self._path(step)
        path.rename(path.with_name(f"{path.name}{_UNFINISHED}"))
        self._remove_unfinished()


def _read_arrays(folder: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Read what Orbax wrote, each process the parts on its devices.

    Orbax closes its event loop at the first array that it cannot read.
    """
    import tensorstore

    files = {"driver": "file", "path": f"{folder}/"}
    database = {"driver": "ocdbt", "base": files}
    context = tensorstore.Context()
    opening = {
        name: tensorstore.open(
            {"driver": "zarr", "kvstore": {**database, "path": name}},
            context=context,
            open=True,
            read=True,
        )
        for name in like
    }
    return {name: _read_array(opening[name].result(), like[name]) for name in like}


def _read_array(store, like):
    if (store.shape, store.dtype.numpy_dtype) != (tuple(like.shape), like.dtype):
        problem = f"it has an array of {store.dtype.numpy_dtype} {store.shape}"
        raise CheckpointError(f"{problem}, expected {like.dtype} {tuple(like.shape)}")
    sharding = getattr(like, "sharding", None)
    if sharding is None:
        return np.asarray(store.read().result())
    import jax

    return jax.make_array_from_callback(
        store.shape, sharding, lambda index: store[index].read().result()
    )


@contextlib.contextmanager
def _without_tracebacks_of_orbax():
    """Leave out Orbax's and asyncio's pages on a failure, told here in a line."""

    def keep(record):
        return "orbax" not in record.pathname and "orbax" not in record.getMessage()

    def tell(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    hook, sys.unraisablehook = sys.unraisablehook, tell
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger in loggers:
            logger.removeFilter(keep)


@contextlib.contextmanager
def _damage_told():
    """Let errors of damaged files be `CheckpointError`, and no others."""
    try:
        yield
    except CheckpointError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(_first_line(error)) from error
    except (ValueError, LookupError, TypeError) as error:
        if any(sign in str(error) for sign in _OF_THE_SYSTEM):
            raise
        raise CheckpointError(_first_line(error)) from error


def _sha256(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _first_line(error):
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # Its cause is at the end.
    return line if len(line) < 300 else f"{line[:120]} ... {line[-160:]}"


def read_state(model: keras.Model) -> dict[str, Any]:
    """Copy the weights, random state and optimizer's variables, by name."""
    state = state_like(model)
    if keras.config.backend() == "jax":
        return state
    # Unlike JAX's arrays, others may share the memory that training writes to.
    return {n: np.array(ops.convert_to_numpy(v)) for n, v in state.items()}


def state_like(model: keras.Model) -> dict[str, Any]:
    """What has the shapes, dtypes and places of `read_state`, without copies."""
    variables = _variables(model)
    if keras.config.backend() == "jax":
        return {name: variable.value for name, variable in variables.items()}
    return variables


def write_state(model: keras.Model, state: Mapping[str, Any]) -> None:
    """Put back what `read_state` gave of the model, or of one made the same way."""
    variables = _variables(model)
    if variables.keys() != state.keys():
        wanted = f"The model has {len(variables)} variables"
        raise ValueError(f"{wanted}. Received: {len(state)}")
    for name, variable in variables.items():
        if tuple(variable.shape) != tuple(state[name].shape):
            expected = f"{name} has the shape {tuple(variable.shape)}"
            raise ValueError(f"{expected}. Received: {tuple(state[name].shape)}")
        variable.assign(state[name])


def _variables(model):
    groups = {
        "trainable": model.trainable_variables,
        "other": model.non_trainable_variables,
        "optimizer": model.optimizer.variables,
    }
    # Paths may hold counters of the process; the order is the model's.
    return {
        f"{group}.{number:05}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def checksums(arrays: Mapping[str, Any]) -> dict[str, int]:
    """A number of 32 bits for each array that any change of its bits changes.

    Arrays on an accelerator, or with parts in other processes, stay there.
    """
    calculate: Callable[..., Any] = checksum
    xp: Any = np
    if keras.config.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu" or jax.process_count() > 1:
            # A program for each shape: one of all arrays would compile for longer.
            calculate, xp = jax.jit(checksum, static_argnums=1), jax.numpy
    # One after the other: on CPUs, processes that have several programs under way wait
    # for each other.
    return {name: int(calculate(array, xp)) for name, array in arrays.items()}


def checksum(array: Any, xp: Any) -> Any:
    """The sum of an array's 32-bit words by odd weights that differ by place.

    So a flipped bit and two swapped values show. `xp` is `numpy` or `jax.numpy`.
    """
    words = xp.atleast_1d(xp.asarray(array))
    words = words.view(_WORDS[words.dtype.itemsize]).astype("uint32")
    # The number of each, without an array in one row: parts stay apart.
    places = xp.zeros((), "uint32")
    for size in words.shape:
        places = places[..., None] * xp.uint32(size) + xp.arange(size, dtype="uint32")
    return xp.sum(words * (xp.uint32(2) * places + xp.uint32(1)), dtype="uint32")
