"""What the page does, without the page: it makes videos, evaluates, and reads runs."""

from __future__ import annotations

import dataclasses
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from keras_makeavid import moving_shapes, video
from keras_makeavid.app.request import Request, check_form, form_of, keyframe_numbers
from keras_makeavid.app.sessions import Session, Sessions, Worker
from keras_makeavid.files import existing_file
from keras_makeavid.training.logs import read_metrics
from keras_makeavid.training.run_folder import RunFolder
from keras_makeavid.validation import refusal
from keras_makeavid.video.pictures import opened_picture

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

MAX_PICTURE_PIXELS = 2**24
MAX_PICTURE_BYTES = 2**25
MAX_KEYFRAMES = 16
_PREVIEW_SIDE = 256
_MOST_POINTS = 500
_MOST_SAMPLES = 12


class Step(NamedTuple):
    """How far a video is."""

    done: int
    total: int
    seconds_left: float | None = None  # Unknown before the second step.
    preview: Path | None = None  # A moving picture, as good as it is known.


class Evaluated(NamedTuple):
    """What an evaluation found."""

    table: str  # Markdown.
    videos: str  # HTML.


class Uploads(NamedTuple):
    """The files of a request, as they were uploaded."""

    hint: Path | None = None
    mask: Path | None = None  # White is what was painted, on nothing.
    keyframes: tuple[Path, ...] = ()
    video: Path | None = None
    lora: Path | None = None


@dataclasses.dataclass(frozen=True)
class Made:
    """A video that is finished, and its files."""

    folder: Path
    request: Request
    seconds: float

    @property
    def path(self) -> Path:
        """The MP4."""
        return self.folder / "video.mp4"

    @property
    def last_frame(self) -> Path:
        """The last frame."""
        return self.folder / "last_frame.png"

    def files(self) -> list[Path]:
        """What can be downloaded, and what the Python lines and the command read."""
        names: list[str | None] = ["video.mp4", "video.gif", "video.webp", "frames.zip"]
        asked = self.request
        names += [asked.hint, asked.mask, *asked.keyframes.values(), asked.video]
        return [self.folder / name for name in names if name]


class Handlers:
    """What the page does for its visitors.

    Args:
        tasks: The models by their names.
        root: A folder for all files.
        run: The folder of a run that is shown.
        device: What to compute on; `None` is the backend's choice.
        on_gpu: Decorates the function that computes a video, as `spaces.GPU` does. What
            it makes may run in another process: then no steps are told.
    """

    def __init__(
        self,
        tasks: Mapping[str, TextToVideo],
        root: Path,
        run: Path | None = None,
        device: str | None = None,
        on_gpu: Callable[[Any], Any] | None = None,
    ):
        self._compute_elsewhere = on_gpu and on_gpu(self._compute)
        self.tasks = dict(tasks)
        self.forms = {name: form_of(task) for name, task in self.tasks.items()}
        self.sessions = Sessions(root)
        self.worker = Worker(device)
        self.run = None if run is None else RunFolder(run)

    def generate(
        self,
        session: Session,
        preset: Any,
        values: Mapping[str, Any],
        uploads: Uploads,
        previews: bool = True,
    ) -> Iterator[Step | Made]:
        """Make a video of what was sent: yield its steps, and then what was made.

        Raises `ValueError` for what does not fit, and `Cancelled`.
        """
        self.check_preset(preset)
        form = check_form(values, self.forms[preset])
        if not form.keep_seed:
            form = msgspec.structs.replace(form, seed=secrets.randbelow(2**32))
        folder = session.new_folder()
        try:
            request = self._request(preset, form, uploads, folder)
            files = request.files(folder)
            begun = time.monotonic()

            def work(tell):
                compute, told = self._compute_elsewhere, {}
                if compute is None:
                    compute, told = self._compute, _told(folder, form, previews, tell)
                adapters = [] if uploads.lora is None else [uploads.lora]
                adapters = [(path, form.lora_scale) for path in adapters]
                if request.distilled:
                    adapters.append((self.tasks[preset].few_steps_file, 1.0))
                arguments = request.settings() | files
                frames = compute(preset, adapters, form.prompt, arguments, **told)
                write_results(folder, frames, form.fps)
                return Made(folder, request, time.monotonic() - begun)

            for event in self.worker.steps(work, session.running):
                if isinstance(event, Made):
                    session.keep(event)
                yield event
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, ValueError | FileNotFoundError):
                raise ValueError(_without_folders(error, folder, uploads)) from error
            raise

    def evaluate(
        self, session: Session, preset: str, count: int, seeds: int, steps: int
    ) -> Iterator[Step | Evaluated]:
        """Measure videos of `count` prompts of each kind: yield steps, then rates."""
        task, prompts = self.tasks[preset], moving_shapes.default_prompts(count)
        total = len(prompts) * seeds

        def work(tell):
            gallery, left = moving_shapes.Gallery(), TimeLeft()
            done = itertools.count(1)

            def on_result(result, frames):
                gallery.add(result, frames)
                step = next(done)
                tell(Step(step, total, left(step, total)))

            videos = moving_shapes.generate_videos(
                task, prompts, num_seeds=seeds, num_steps=steps
            )
            evaluation = moving_shapes.evaluate(videos, on_result)
            examples = "".join(gallery.examples())
            return Evaluated(moving_shapes.markdown_table(evaluation), examples)

        yield from self.worker.steps(work, session.running)

    def curves(self) -> list[dict[str, Any]]:
        """Lines of the run's metrics, so many that they can be drawn."""
        if self.run is None or not self.run.metrics.exists():
            return []
        lines = list(read_metrics(self.run.metrics))
        return lines[:: max(1, len(lines) // _MOST_POINTS)]

    def samples(self) -> list[tuple[Path, str]]:
        """The run's newest sample videos, each prompt's over the steps, with a word."""
        if self.run is None:
            return []
        paths = self.run.samples.glob("step-*/*.mp4")
        newest = sorted(paths, key=lambda path: path.parent.name, reverse=True)
        shown = sorted(newest[:_MOST_SAMPLES], key=lambda p: (p.stem, p.parent.name))
        return [(p, f"{p.stem}: step {p.parent.name[5:].lstrip('0')}") for p in shown]

    def check_preset(self, preset: Any) -> None:
        """Refuse a model that is not here."""
        if preset not in self.tasks:
            names = ", ".join(self.tasks)
            raise ValueError(f"Model must be one of {names}. Received: {preset!r:.80}")

    def _request(self, preset, form, uploads, folder):
        """Check the uploads, and put them into the folder under plain names."""
        frames = keyframe_numbers(form.keyframes_at, len(uploads.keyframes))
        if len(frames) > MAX_KEYFRAMES:
            raise ValueError(f"There must be at most {MAX_KEYFRAMES} keyframes.")
        pictures = {"hint": uploads.hint, "mask": uploads.mask}
        pictures |= {f"keyframe_{n}": path for n, path in enumerate(uploads.keyframes)}
        names = {}
        for name, path in pictures.items():
            if path is not None:
                read = read_mask if name == "mask" else read_picture
                names[name] = f"{name}.png"
                video.write_image(folder / names[name], read(path))
        if uploads.video is not None:
            names["video"] = f"clip{uploads.video.suffix}"
            shutil.copy(uploads.video, folder / names["video"])
        if uploads.lora is not None:
            names["lora"] = uploads.lora.name
            if uploads.lora.suffix != ".safetensors":
                raise refusal("An adapter must be a .safetensors file", names["lora"])
        usual = self.tasks[preset].num_frames
        window = usual if form.frames > usual else None
        keyframes = {at: names.pop(f"keyframe_{n}") for n, at in enumerate(frames)}
        own = self.tasks[preset].few_steps_file
        names["distilled"] = form.few_steps and own is not None
        return Request(preset, form, window, keyframes=keyframes, **names)

    def _compute(self, preset, adapters, prompt, arguments, **told):
        """The frames of a video; runs in the worker's thread."""
        task, loaded = self.tasks[preset], []
        try:
            for path, scale in adapters:
                loaded.append(task.load_lora(path, scale))
            return task.generate(prompt, **arguments, **told)[0]
        finally:
            for name in loaded:
                task.unload_lora(name)


def _told(folder, form, previews, tell):
    """Arguments of `generate` that tell steps, with previews as files of a folder."""
    left = TimeLeft()

    def progress(step, total):
        tell(Step(step, total, left(step, total)))

    def preview(step, total, frames):
        path, shown = folder / f"preview_{step}.webp", frames[0]
        factor = max(1, _PREVIEW_SIDE // max(shown.shape[1:3]))
        shown = shown.repeat(factor, axis=1).repeat(factor, axis=2)
        video.write_video(path, shown, form.fps)
        tell(Step(step, total, left(step, total), path))

    if not previews:
        return {"progress": progress}
    every = max(1, form.steps // 5)
    return {"progress": progress, "preview": preview, "preview_every": every}


class TimeLeft:
    """Seconds until a work is done, as fast as it was since its first step.

    That one may compile, and does not count.
    """

    def __init__(self):
        self._first: tuple[int, float] | None = None

    def __call__(self, step: int, total: int) -> float | None:
        now = time.monotonic()
        first, begun = self._first = self._first or (step, now)
        if step == first:
            return None
        return (now - begun) / (step - first) * (total - step)


def write_results(folder: Path, frames: np.ndarray, fps: float) -> None:
    """Write a video `(F, H, W, 3)` in all its forms, and its last frame."""
    for name in ("video.mp4", "video.gif", "video.webp"):
        video.write_video(folder / name, frames, fps)
    video.write_video(folder / "frames", frames, fps)
    shutil.make_archive(str(folder / "frames"), "zip", folder / "frames")
    shutil.rmtree(folder / "frames")
    video.write_image(folder / "last_frame.png", frames[-1])


def read_picture(path: Path) -> np.ndarray:
    """Read a picture `(H, W, 3)` that was uploaded, unless it is too large."""
    _check_picture(path)
    return video.read_image(path)


def read_mask(path: Path) -> np.ndarray:
    """Read what was painted white, on nothing or on black, as a picture `(H, W, 3)`."""
    _check_picture(path)
    mask = video.read_mask(path, background="black")
    return np.repeat(mask[..., None], 3, axis=-1)


def _check_picture(path):
    """Refuse a file that is no picture, or too large, before it is decoded."""
    size = existing_file(path).stat().st_size
    if size > MAX_PICTURE_BYTES:
        problem = f"A picture must have at most {MAX_PICTURE_BYTES:,} bytes"
        raise ValueError(f"{problem}. Received: {size:,} bytes ({path.name})")
    with opened_picture(path, MAX_PICTURE_PIXELS):
        pass


def _without_folders(error, folder, uploads):
    """An error's text with files by their names: where they are says nothing."""
    text = str(error)
    for path in (folder / "any", *uploads.keyframes, *uploads):
        if isinstance(path, Path):
            text = text.replace(f"{path.parent}{os.sep}", "")
    return text
