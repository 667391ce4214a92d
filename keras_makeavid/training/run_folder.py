"""The folder of a run."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_makeavid.files import put_back
from keras_makeavid.json_files import read_object, write_json
from keras_makeavid.recipes import Recipe, RecipeError, recipe_as_dict, recipe_from_dict

# What may differ when a run is continued: none of it changes what is computed, but
# for the guard's keys, by which a run that gave up can go on.
_FREE = (
    *("checkpoints.keep", "logs", "samples", "run.folder", "distribution", "guard"),
)
_FREE_ENDINGS = ("data.workers", "data.prefetch")
_LOCK = ".lock"
_HOW_TO_GO_ON = (
    "To continue the run, put back the recipe.json that it began with; to begin anew, "
    "choose another run.folder, or remove this one"
)


class RunFolder:
    """Names of the files of a run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.json"
        self.metrics = self.path / "metrics.jsonl"
        self.rollbacks = self.path / "rollbacks.json"
        self.report = self.path / "report.json"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.samples = self.path / "samples"
        self.preset = self.path / "preset"
        self.lora = self.path / "lora.safetensors"

    def check(self, recipe: Recipe, resume: bool) -> None:
        """Refuse a folder that is not free, nor holds this run to be continued."""
        if not self.recipe.exists():
            if self.metrics.exists() or self.checkpoints.exists():
                raise FileNotFoundError(f"{self.recipe} is missing. {_HOW_TO_GO_ON}")
            if self.path.exists() and (
                not self.path.is_dir()
                or any(not path.name.startswith(".") for path in self.path.iterdir())
            ):
                problem = f"{self.path} holds something that is no run"
                raise FileExistsError(f"{problem}: choose another run.folder")
            return
        if not resume:
            problem = f"{self.path} holds a run already: continue it (--resume auto)"
            raise FileExistsError(f"{problem}, or choose another run.folder")
        try:
            found = read_object(self.recipe)
        except (ValueError, OSError) as error:
            problem = str(error).rstrip(".")
            raise ValueError(f"{problem}. {_HOW_TO_GO_ON}") from error
        differences = list(_differences(_completed(found), recipe_as_dict(recipe)))
        if differences:
            told = "; ".join(differences[:10])
            trouble = f"The recipe is not that of the run in {self.path}"
            raise ValueError(f"{trouble}: {told}")

    @contextlib.contextmanager
    def begun(self, recipe: Recipe) -> Iterator[None]:
        """Make the folder, note the recipe, and keep others out but on Windows."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / _LOCK).open("w") as lock:
            try:
                _lock(lock)
            except BlockingIOError as error:
                raise RuntimeError(f"Another process trains in {self.path}") from error
            self._remove_leftovers()
            # Of a run that gave up, and now goes on.
            self.report.unlink(missing_ok=True)
            write_json(self.recipe, recipe_as_dict(recipe))
            yield

    def _remove_leftovers(self):
        """Remove what was being written, or replaced, when a process was killed."""
        put_back(self.preset)
        for pattern in (".*.part", ".*.old"):
            for path in self.path.glob(pattern):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def check_space(folder: Path, size: int) -> None:
    """Refuse to fill a disk: there HDF5 ends the process, with no Python exception."""
    free = shutil.disk_usage(folder).free
    if free < size:
        problem = f"{os.strerror(errno.ENOSPC)} for {size:,} bytes, {free:,} are free"
        raise OSError(errno.ENOSPC, problem, str(folder))


def _lock(file):
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _completed(found):
    """Fill in keys that did not exist yet when the run began."""
    try:
        return recipe_as_dict(recipe_from_dict(found))
    except RecipeError:
        return found


def _differences(found, wanted) -> Iterator[str]:
    found, wanted = dict(_flat(found)), dict(_flat(wanted))
    for key in sorted(found.keys() | wanted.keys()):
        if key.startswith(_FREE) or key.endswith(_FREE_ENDINGS):
            continue
        old, new = found.get(key), wanted.get(key)
        if old != new:
            yield f"{key} was {old!r} and is {new!r}"


def _flat(values, path="") -> Iterator[tuple[str, Any]]:
    if isinstance(values, list):
        values = dict(enumerate(values, start=1))
    if not isinstance(values, Mapping):
        yield path, values
        return
    for key, value in values.items():
        yield from _flat(value, f"{path}.{key}" if path else str(key))
