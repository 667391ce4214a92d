"""What the page does, without the page: it makes videos, evaluates, and reads runs."""

from __future__ import annotations

import dataclasses
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from keras_makeavid import video
from keras_makeavid.app.request import (
    Request,
    check_form,
    form_of,
    keyframe_numbers,
)
from keras_makeavid.app.sessions import Session, Sessions
from keras_makeavid.app.work import Worker
from keras_makeavid.video.pictures import opened_picture

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

MAX_PICTURE_PIXELS = 2**24
MAX_PICTURE_BYTES = 2**25
MAX_KEYFRAMES = 16
_PREVIEW_SIDE = 256


class Step(NamedTuple):
    """How far a video is."""

    done: int
    total: int
    seconds_left: float | None = None  # Unknown before the second step.
    preview: Path | None = None  # A moving picture, as good as it is known.


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
    def picture(self) -> Path:
        """The moving picture of the history."""
        return self.folder / "video.webp"

    @property
    def last_frame(self) -> Path:
        """The last frame."""
        return self.folder / "last_frame.png"

    def files(self) -> list[Path]:
        """What can be downloaded, and what the Python lines and the command read."""
        names = ["video.mp4", "video.gif", "video.webp", "frames.zip"]
        request = self.request
        given = [request.hint, request.mask, *request.keyframes.values(), request.video]
        names += [name for name in given if name]
        return [self.folder / name for name in names]


class Handlers:
    """What the page does for its visitors.

    Args:
        tasks: The models by their names.
        root: A folder for all files.
        device: What to compute on; `None` is the backend's choice.
    """

    def __init__(
        self, tasks: Mapping[str, TextToVideo], root: Path, device: str | None = None
    ):
        self.tasks = dict(tasks)
        self.forms = {name: form_of(task) for name, task in self.tasks.items()}
        self.sessions = Sessions(root)
        self.worker = Worker(device)

    def generate(
        self,
        session: Session,
        preset: Any,
        values: Mapping[str, Any],
        uploads: Uploads,
        previews: bool = True,
    ) -> Iterator[Step | Made]:
        """Make a video: yield its steps, and then what was made.

        Args:
            session: The visitor's.
            preset: The name of a model.
            values: What was sent, by the names of the form.
            uploads: The files that were sent.
            previews: Whether steps have previews.

        Raises:
            ValueError: If something does not fit.
            Cancelled: If the visitor cancelled.
        """
        self.check_preset(preset)
        form = check_form(values, self.forms[preset])
        if not form.keep_seed:
            seed = secrets.randbelow(2**32)
            form = check_form(_changed(form, seed=seed), self.forms[preset])
        folder = session.new_folder()
        try:
            request = self._request(preset, form, uploads, folder)
            files = request.files(folder)
            begun = time.monotonic()

            def work(tell):
                frames = self._frames(request, folder, files, previews, tell)
                write_results(folder, frames, form.fps)
                return Made(folder, request, time.monotonic() - begun)

            for event in self.worker.steps(work, session.running):
                if isinstance(event, Made):
                    session.history.append(event)
                yield event
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

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
        pictures |= {
            f"keyframe_{number}": path for number, path in enumerate(uploads.keyframes)
        }
        names = {}
        for name, path in pictures.items():
            if path is None:
                continue
            read = read_mask if name == "mask" else read_picture
            names[name] = f"{name}.png"
            video.write_image(folder / names[name], read(path))
        for name, path in (("clip", uploads.video), ("lora", uploads.lora)):
            if path is not None:
                names[name] = f"{name}{path.suffix}"
                shutil.copy(path, folder / names[name])
        usual = self.tasks[preset].num_frames
        return Request(
            preset,
            form,
            window=usual if form.frames > usual else None,
            hint=names.get("hint"),
            mask=names.get("mask"),
            keyframes={
                frame: names[f"keyframe_{number}"]
                for number, frame in enumerate(frames)
            },
            video=names.get("clip"),
            lora=names.get("lora"),
        )

    def _frames(self, request, folder, files, previews, tell):
        """The frames of a video; runs in the worker's thread."""
        task, first = self.tasks[request.preset], None

        def left(step, total):
            # The first step may compile.
            nonlocal first
            now = time.monotonic()
            first = first or (step, now)
            if step == first[0]:
                return None
            return (now - first[1]) / (step - first[0]) * (total - step)

        def progress(step, total):
            tell(Step(step, total, left(step, total)))

        def preview(step, total, frames):
            path = folder / f"preview_{step}.webp"
            video.write_video(path, _enlarged(frames[0]), request.form.fps)
            tell(Step(step, total, left(step, total), path))

        if request.lora:
            name = task.load_lora(folder / request.lora, request.form.lora_scale)
        try:
            return task.generate(
                request.form.prompt,
                **request.settings(),
                **files,
                progress=progress,
                preview=preview if previews else None,
                preview_every=max(1, request.form.steps // 5),
            )[0]
        finally:
            if request.lora:
                task.unload_lora(name)


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
    check_picture(path)
    return video.read_image(path)


def read_mask(path: Path) -> np.ndarray:
    """Read what was painted white, on nothing or on black, as a picture `(H, W, 3)`."""
    check_picture(path)
    mask = video.read_mask(path, background="black")
    return np.repeat(mask[..., None], 3, axis=-1)


def check_picture(path: Path) -> None:
    """Refuse a file that is no picture, or too large, before it is decoded."""
    size = path.stat().st_size
    if size > MAX_PICTURE_BYTES:
        raise ValueError(
            f"A picture must have at most {MAX_PICTURE_BYTES:,} bytes. "
            f"Received: {size:,} bytes ({path.name})"
        )
    with opened_picture(path, MAX_PICTURE_PIXELS):
        pass


def _changed(form, **changes):
    return {name: getattr(form, name) for name in form.__struct_fields__} | changes


def _enlarged(frames):
    factor = max(1, _PREVIEW_SIDE // max(frames.shape[1:3]))
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)
