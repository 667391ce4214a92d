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

# Of `generate`: the option of the command.
_OPTIONS = {
    "negative_prompts": "--negative",
    "strength": "--strength",
    "num_frames": "--frames",
    "height": "--height",
    "width": "--width",
    "window": "--window",
    "num_steps": "--steps",
    "guidance_scale": "--guidance",
    "image_guidance_scale": "--image-guidance",
    "scheduler": "--scheduler",
    "seed": "--seed",
}
# What the page calls the parts of a form.
LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "What to avoid",
    "keyframes_at": "Frames of the keyframes",
    "strength": "How much may change",
    "lora_scale": "Weight of the adapter",
    "frames": "Frames",
    "height": "Height",
    "width": "Width",
    "fps": "Frames a second",
    "steps": "Steps",
    "guidance": "Guidance",
    "image_guidance": "Guidance of the first frame",
    "scheduler": "Scheduler",
    "seed": "Seed",
    "keep_seed": "Keep the seed",
}
# What a number in a browser holds exactly.
MAX_SEED = 2**53 - 1
_Text = Annotated[
    str, Meta(max_length=2000, description="text of at most 2000 letters")
]


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that a form may ask of a task."""

    frames: int
    side: int
    volume: int  # Frames times height times width.
    steps: int = 100
    guidance: float = 30.0
    fps: float = 30.0

    @classmethod
    def of(cls, task: TextToVideo) -> Limits:
        """Four times what the task makes by itself, in one direction or in all."""
        usual = task.num_frames * task.height * task.width
        return cls(4 * task.num_frames, 2 * max(task.height, task.width), 4 * usual)


def form_of(task: TextToVideo) -> type[Any]:
    """Make the type of a task's forms: a `Table`, with the task's own defaults."""
    limits = Limits.of(task)

    def whole(least: int, most: int) -> Any:
        return Annotated[int, Meta(ge=least, le=most)]

    def number(least: float, most: float) -> Any:
        return Annotated[float, Meta(ge=float(least), le=float(most))]

    guidance = number(1, limits.guidance)
    fields = [
        ("prompt", _Text, ""),
        ("negative_prompt", _Text, ""),
        ("keyframes_at", _Text, ""),
        ("strength", number(0, 1), _default("strength")),
        ("lora_scale", number(-2, 2), 1.0),
        ("frames", whole(1, limits.frames), task.num_frames),
        ("height", whole(8, limits.side), task.height),
        ("width", whole(8, limits.side), task.width),
        ("fps", number(1, limits.fps), float(task.fps)),
        ("steps", whole(1, limits.steps), _default("num_steps")),
        ("guidance", guidance, float(task.guidance_scale)),
        ("image_guidance", guidance, float(task.guidance_scale)),
        ("scheduler", Literal[tuple(SCHEDULERS)], _default("scheduler")),
        ("seed", whole(0, MAX_SEED), 0),
        ("keep_seed", bool, False),
    ]

    def problems(form):
        if form.frames * form.height * form.width > limits.volume:
            yield (
                "frames",
                f"times height times width must be at most {limits.volume}: make the "
                "video shorter or smaller",
            )

    return msgspec.defstruct(
        "Form",
        fields,
        bases=(Table,),
        namespace={"problems": problems},
        frozen=True,
        forbid_unknown_fields=True,
    )


def _default(name: str) -> Any:
    from keras_makeavid.tasks import TextToVideo

    return inspect.signature(TextToVideo.generate).parameters[name].default


def check_form(values: Mapping[str, Any], kind: type[Any]) -> Any:
    """Make a form of what a client sent, or raise a `ValueError` for people."""
    try:
        return validate(values, kind, "The form")
    except ValidationError as error:
        problems = []
        for problem in error.problems:
            name, _, rest = problem.partition(" ")
            problems.append(f"{LABELS.get(name, name)} {rest}")
        raise ValueError("\n".join(problems)) from None


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

    def settings(self) -> dict[str, Any]:
        """The arguments of `generate` that are no files, and no prompt."""
        form = self.form
        settings = {
            "negative_prompts": form.negative_prompt or None,
            "strength": form.strength if self.video else None,
            "num_frames": form.frames,
            "height": form.height,
            "width": form.width,
            "window": self.window,
            "num_steps": form.steps,
            "guidance_scale": form.guidance,
            "image_guidance_scale": form.image_guidance,
            "scheduler": form.scheduler,
            "seed": form.seed,
        }
        return {name: value for name, value in settings.items() if value is not None}

    def files(self, folder: Path) -> dict[str, Any]:
        """The arguments of `generate` that are files of a folder."""
        from keras_makeavid import video

        files: dict[str, Any] = {}
        if self.hint:
            files["hint_image"] = video.read_image(folder / self.hint)
        if self.mask:
            files["mask_image"] = video.read_mask(folder / self.mask)
        if self.keyframes:
            files["keyframes"] = {
                frame: video.read_image(folder / name)
                for frame, name in self.keyframes.items()
            }
        if self.video:
            files["video"] = video.read_video(
                folder / self.video, fps=self.form.fps, num_frames=self.form.frames
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
        lines = [
            "import keras_makeavid as km",
            "",
            f"task = km.TextToVideo.from_preset({self.preset!r})",
            *(
                [f"task.load_lora({self.lora!r}, scale={self.form.lora_scale!r})"]
                if self.lora
                else []
            ),
            "video = task.generate(",
            *(f"    {argument}," for argument in given),
            ")[0]",
            f'km.video.write_video("video.mp4", video, fps={fps:g})',
        ]
        return "\n".join(lines)

    def as_command(self) -> str:
        """The command that makes the same video."""
        words = ["makeavid", "generate", "--preset", self.preset]
        words += ["--fps", f"{self.form.fps:g}", "--out", "video.mp4"]
        for option in ("hint", "mask", "video"):
            if name := getattr(self, option):
                words += [f"--{option}", name]
        for frame, name in self.keyframes.items():
            words += ["--keyframe", f"{frame}={name}"]
        if self.lora:
            words += ["--lora", f"{self.lora}:{self.form.lora_scale}"]
        for name, value in self.settings().items():
            words.append(f"{_OPTIONS[name]}={value}")
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
