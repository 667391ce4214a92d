"""What a form of the page says: its bounds, and what makes the same video elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from keras_makeavid.schedulers.registry import SCHEDULERS
from keras_makeavid.validation import Table, ValidationError, validate

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

# The parts of a form that are arguments of `generate`, with `window`.
_ARGUMENTS = {
    **{"negative_prompt": "negative_prompts", "strength": "strength"},
    **{"frames": "num_frames", "height": "height", "width": "width"},
    **{"window": "window", "steps": "num_steps", "guidance": "guidance_scale"},
    **{"image_guidance": "image_guidance_scale", "scheduler": "scheduler"},
    "seed": "seed",
}
# What a number in a browser holds exactly.
_MAX_SEED = 2**53 - 1
_MOST_STEPS, _MOST_GUIDANCE, _MOST_FPS = 100, 30.0, 30.0
_TEXT = Annotated[
    str, Meta(max_length=2000, description="text of at most 2000 letters")
]


def form_of(task: TextToVideo) -> type[Any]:
    """Make the type of a task's forms: a `Table`, with the task's own defaults.

    It bounds what may be asked for: four times what the task makes by itself, in one
    direction or in all. Its `labels` are what the page calls the parts.
    """
    usual = task.num_frames * task.height * task.width
    most_side, most_volume = 2 * max(task.height, task.width), 4 * usual

    def whole(least: int, most: int) -> Any:
        return Annotated[int, Meta(ge=least, le=most)]

    def number(least: float, most: float) -> Any:
        return Annotated[float, Meta(ge=float(least), le=float(most))]

    guidance, weight = number(1, _MOST_GUIDANCE), float(task.guidance_scale)
    side, frames = whole(8, most_side), whole(1, 4 * task.num_frames)
    steps, fps = whole(1, _MOST_STEPS), number(1, _MOST_FPS)
    parts = [
        ("prompt", "Prompt", _TEXT, ""),
        ("negative_prompt", "What to avoid", _TEXT, ""),
        ("keyframes_at", "Frames of the keyframes", _TEXT, ""),
        ("strength", "How much may change", number(0, 1), _default("strength")),
        ("lora_scale", "Weight of the adapter", number(-2, 2), 1.0),
        ("frames", "Frames", frames, task.num_frames),
        ("height", "Height", side, task.height),
        ("width", "Width", side, task.width),
        ("fps", "Frames a second", fps, float(task.fps)),
        ("steps", "Steps", steps, task.num_steps),
        ("few_steps", "Few steps", bool, False),
        ("guidance", "Guidance", guidance, weight),
        ("image_guidance", "Guidance of the first frame", guidance, weight),
        ("scheduler", "Scheduler", Literal[tuple(SCHEDULERS)], task.scheduler),
        ("seed", "Seed", whole(0, _MAX_SEED), 0),
        ("keep_seed", "Keep the seed", bool, False),
    ]

    def problems(form):
        if form.frames * form.height * form.width > most_volume:
            said = f"times height times width must be at most {most_volume}"
            yield "frames", f"{said}: make the video shorter or smaller"

    return msgspec.defstruct(
        "Form",
        [(name, kind, default) for name, _, kind, default in parts],
        bases=(Table,),
        namespace={
            "problems": problems,
            "labels": {name: label for name, label, *_ in parts},
        },
        frozen=True,
        forbid_unknown_fields=True,
    )


def bounds_of(kind: type[Any], name: str) -> tuple[float, float]:
    """The least and the most that a form takes as a part."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    (meta,) = fields[name].__metadata__
    return meta.ge, meta.le


def _default(name: str) -> Any:
    from keras_makeavid.tasks import TextToVideo

    return inspect.signature(TextToVideo.generate).parameters[name].default


def check_form(values: Mapping[str, Any], kind: type[Any]) -> Any:
    """Make a form of what a client sent, or raise a `ValueError` for people."""
    try:
        return validate(values, kind, "The form")
    except ValidationError as error:
        pairs = (problem.partition(" ")[::2] for problem in error.problems)
        told = [f"{kind.labels.get(name, name)} {rest}" for name, rest in pairs]
        raise ValueError("\n".join(told)) from None


def link_of(preset: str, form: Any) -> str:
    """Say a form as the query of an address, without what is as usual."""
    usual, values = type(form)(), msgspec.structs.asdict(form)
    said = {name: v for name, v in values.items() if v != getattr(usual, name)}
    return urlencode({"preset": preset, **said, "seed": form.seed, "keep_seed": True})


def form_of_link(query: Mapping[str, str], kind: type[Any]) -> Any:
    """Read the query of an address; raise a `ValueError` for what does not fit."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        # An address may have other parts, such as the theme of the page.
        if (text := query.get(field.encode_name)) is not None:
            values[field.encode_name] = text
            # What does not fit is refused below, in words.
            with contextlib.suppress(msgspec.ValidationError):
                values[field.encode_name] = msgspec.convert(
                    text, field.type, strict=False
                )
    return check_form(values, kind)


@dataclasses.dataclass(frozen=True)
class Request:
    """A video that is asked for: a form, and files by their names in a folder."""

    preset: str
    form: Any
    window: int | None = None
    hint: str | None = None
    mask: str | None = None
    keyframes: Mapping[int, str] = dataclasses.field(default_factory=dict)
    video: str | None = None
    lora: str | None = None
    distilled: bool = False  # By the preset's own adapter.

    def settings(self) -> dict[str, Any]:
        """The arguments of `generate` that are no files, and no prompt."""
        return {_ARGUMENTS[part]: value for part, value in self._parts().items()}

    def _parts(self):
        values = msgspec.structs.asdict(self.form) | {"window": self.window}
        # What a video that is none may change, and the text that says nothing.
        values["strength"] = self.form.strength if self.video else None
        values["negative_prompt"] = self.form.negative_prompt or None
        return {part: values[part] for part in _ARGUMENTS if values[part] is not None}

    def files(self, folder: Path) -> dict[str, Any]:
        """The arguments of `generate` that are files of a folder."""
        from keras_makeavid import video

        files: dict[str, Any] = {}
        if self.hint:
            files["hint_image"] = video.read_image(folder / self.hint)
        if self.mask:
            files["mask_image"] = video.read_mask(folder / self.mask)
        if self.keyframes:
            pairs = self.keyframes.items()
            files["keyframes"] = {f: video.read_image(folder / n) for f, n in pairs}
        if self.video:
            path, form = folder / self.video, self.form
            files["video"] = video.read_video(
                path, fps=form.fps, num_frames=form.frames
            )
        return files

    def as_python(self) -> str:
        """Lines that make the same video."""
        fps, read = self.form.fps, "km.video.read_image"
        given = [f"{self.form.prompt!r}"]
        if self.hint:
            given.append(f"hint_image={read}({self.hint!r})")
        if self.mask:
            given.append(f"mask_image=km.video.read_mask({self.mask!r})")
        if self.keyframes:
            pairs = (f"{at}: {read}({name!r})" for at, name in self.keyframes.items())
            given.append(f"keyframes={{{', '.join(pairs)}}}")
        if self.video:
            given.append(
                f"video=km.video.read_video({self.video!r}, fps={fps:g}, "
                f"num_frames={self.form.frames})"
            )
        given += [f"{name}={value!r}" for name, value in self.settings().items()]
        lines = ["import keras_makeavid as km", ""]
        few = ", few_steps=True" if self.distilled else ""
        lines += [f"task = km.TextToVideo.from_preset({self.preset!r}{few})"]
        if self.lora:
            lines += [f"task.load_lora({self.lora!r}, scale={self.form.lora_scale!r})"]
        lines += ["video = task.generate(", *(f"    {each}," for each in given), ")[0]"]
        lines += [f'km.video.write_video("video.mp4", video, fps={fps:g})']
        return "\n".join(lines)

    def as_command(self) -> str:
        """The command that makes the same video."""
        words = ["makeavid", "generate", "--preset", self.preset]
        words += ["--fps", f"{self.form.fps:g}", "--out", "video.mp4"]
        words += ["--few-steps"] if self.distilled else []
        for option in ("hint", "mask", "video"):
            if name := getattr(self, option):
                words += [f"--{option}", name]
        for frame, name in self.keyframes.items():
            words += ["--keyframe", f"{frame}={name}"]
        if self.lora:
            words += ["--lora", f"{self.lora}:{self.form.lora_scale}"]
        for part, value in self._parts().items():
            option = part.removesuffix("_prompt").replace("_", "-")
            words.append(f"--{option}={value}")
        # As with the equals signs: what begins with a dash is no option.
        return shlex.join([*words, "--", self.form.prompt])


def keyframe_numbers(text: str, count: int) -> list[int]:
    """Read the frames of so many pictures, such as `"0, 8, -1"`."""
    try:
        frames = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        frames = []
    if len(frames) != count:
        raise ValueError(
            f"Frames of the keyframes must be {count} whole numbers, one for each "
            f"picture, such as 0, 8, -1. Received: {text!r}"
        )
    return frames
