"""Many videos of one task: a list of prompts in a file, a folder of videos out."""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import keras
import msgspec

from keras_makeavid import video
from keras_makeavid.files import StrPath, read_text, remove_leftovers
from keras_makeavid.json_files import parse_json, write_json
from keras_makeavid.ray_workers import RayWorkers
from keras_makeavid.tasks.text_to_video import TextToVideo
from keras_makeavid.validation import Table, validate

_MANIFEST = "manifest.json"
_Count = Annotated[int, msgspec.Meta(ge=1)]


class VideoRequest(Table, frozen=True):
    """A line of a list of prompts, as `generate` takes it. `None` is the default.

    `hint_image` and `mask_image` are paths of pictures, from the folder of the list.
    """

    prompt: str
    negative_prompt: str | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    hint_image: str | None = None
    mask_image: str | None = None
    num_frames: _Count | None = None
    height: _Count | None = None
    width: _Count | None = None
    num_steps: _Count | None = None
    guidance_scale: float | None = None
    image_guidance_scale: float | None = None


# What may differ within a batch. The rest is the same for all of it.
_OWN = ("prompt", "negative_prompt", "seed", "hint_image", "mask_image")


@dataclass
class ManyReport:
    """What became of a list of prompts, by the numbers of its lines.

    Videos are `written` in this run or `found` from earlier; `failed` are other lines.
    """

    written: dict[int, Path] = field(default_factory=dict)
    found: dict[int, Path] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


def read_requests(path: StrPath) -> tuple[dict[int, VideoRequest], dict[int, str]]:
    """Read a list of prompts: `.jsonl`, a `VideoRequest` a line, or a prompt a line.

    The file is in UTF-8. Empty lines count, and are passed over.

    Returns:
        The requests, and what is wrong with other lines, by their numbers from 1.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If the file is not in UTF-8, or has no prompt in it.
    """
    path = Path(path)
    requests, problems = {}, {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        line = line.strip()
        if not line:
            continue
        source = f"line {number} of {path}"
        try:
            value = {"prompt": line}
            if path.suffix.lower() == ".jsonl":
                value = parse_json(line, source)
            request = validate(value, VideoRequest, source)
        except ValueError as error:
            problems[number] = str(error)
        else:
            pictures = {
                name: str(path.parent / picture)
                for name in ("hint_image", "mask_image")
                if (picture := getattr(request, name)) is not None
            }
            requests[number] = msgspec.structs.replace(request, **pictures)
    if not requests and not problems:
        raise ValueError(f"{path} has no prompt in it.")
    return requests, problems


def generate_many(
    task: TextToVideo,
    requests: dict[int, VideoRequest],
    out: StrPath,
    *,
    batch_size: int = 1,
    suffix: str = ".mp4",
    fps: float | None = None,
    seed: int = 0,
    background: str = "white",
    on_video: Callable[[int], None] = lambda number: None,
    ray_workers: RayWorkers | None = None,
    **defaults: Any,
) -> ManyReport:
    """Generate a video for each request, into a folder, and go on where a run ended.

    The name of a file tells its request and all settings. One that is there is not made
    again. Files appear whole; `manifest.json` beside them says what each one is. A
    request that fails does not end the others.

    Args:
        task: The task. Its weights are no part of names: another wants another folder.
        requests: By number, as of `read_requests`.
        out: The folder, made if it is not there.
        batch_size: Videos generated at once, of those with the same settings.
        suffix: Format: `.mp4`, `.gif` or `.webp`.
        fps: Frames a second; `None` is the task's.
        seed: The request of number `n` without a seed of its own has `seed + n`.
        background: Colour behind transparent parts of pictures.
        on_video: Called with the number of each request that is done, or has failed.
        ray_workers: What generates instead, by a preset with the task's weights.
        **defaults: Further arguments of `generate`, where a request has none.

    Raises:
        ValueError: If `batch_size`, `suffix` or `fps` make no video.

    Example:
    ```python
    requests, problems = read_requests("prompts.txt")
    generate_many(task, requests, "videos", batch_size=4, num_steps=20)
    ```
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received: {batch_size}")
    fps = task.fps if fps is None else fps
    out = Path(out)
    video.check_video_path(out.parent / f"video{suffix}", fps)
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    report = ManyReport()
    facts: dict[str, dict[str, Any]] = {}
    waiting = {}
    usual = {"num_steps": task.num_steps, "scheduler": task.scheduler}
    for number, request in requests.items():
        told = msgspec.structs.asdict(request)
        given = {key: value for key, value in told.items() if value is not None}
        settings = {**usual, **defaults, "seed": seed + number, **given}
        name = _file_name(number, {**settings, "fps": fps}) + suffix
        plain = json.loads(json.dumps(settings, default=repr))
        facts[name] = {"number": number, **plain}
        if (out / name).exists():
            report.found[number] = out / name
            on_video(number)
        else:
            waiting[number] = (name, settings)

    def write_manifest():
        done = {p.name for p in (*report.found.values(), *report.written.values())}
        videos = {name: fact for name, fact in facts.items() if name in done}
        failed = {str(number): text for number, text in report.failed.items()}
        write_json(out / _MANIFEST, {"videos": videos, "failed": failed})

    batches = _batches(waiting, batch_size)
    calls = ((batch, batch_size, out, fps, background) for batch in batches)
    outcomes: Iterator[Any]
    if ray_workers is None:
        outcomes = (_make_batch(task, *call) for call in calls)
    else:
        policies = (task.backbone.dtype_policy, task.low_memory)
        outcomes = ray_workers.results(GeneratingRayWorker, policies, calls)
    for written, failed in outcomes:
        report.written |= written
        report.failed |= failed
        write_manifest()
        for number in (*written, *failed):
            on_video(number)
    write_manifest()
    return report


def _file_name(number, settings):
    text = json.dumps(settings, sort_keys=True, default=repr)
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    slug = re.sub(r"[^\w]+", "-", settings["prompt"]).strip("-")[:40]
    return f"{number:05}-{slug}-{key}"


def _batches(waiting, size) -> Iterator[list[tuple[int, str, dict[str, Any]]]]:
    """Runs of at most `size` neighbours that one call of `generate` can make."""

    def shared(entry):
        _, _, settings = entry
        same = {name: v for name, v in settings.items() if name not in _OWN}
        pictures = ["hint_image" in settings, "mask_image" in settings]
        return json.dumps([same, pictures], sort_keys=True, default=repr)

    entries = ((number, name, settings) for number, (name, settings) in waiting.items())
    for _, run in itertools.groupby(entries, shared):
        while batch := list(itertools.islice(run, size)):
            yield batch


class GeneratingRayWorker:
    """What runs on another machine: generates videos and writes them."""

    def __init__(self, preset: str, policy: keras.DTypePolicy, low_memory: bool):
        self._task = TextToVideo.from_preset(
            preset, dtype=policy, low_memory=low_memory
        )

    def work(self, *call: Any) -> tuple[dict[int, Path], dict[int, str]]:
        """Generate and write a batch."""
        return _make_batch(self._task, *call)


def _make_batch(task, batch, size, out, fps, background):
    """The files written and what was wrong with others, by the numbers of requests."""
    written: dict[int, Path] = {}
    failed: dict[int, str] = {}

    def make(entries):
        videos = _generate(task, entries, size, background)
        for (number, name, _), frames in zip(entries, videos, strict=True):
            video.write_video(out / name, frames, fps=fps)
            written[number] = out / name

    try:
        make(batch)
    except (ValueError, OSError):
        # One may be to blame, such as a picture that is none, and the others not.
        for entry in batch:
            try:
                if entry[0] not in written:
                    make([entry])
            except (ValueError, OSError) as error:
                failed[entry[0]] = " ".join(str(error).split())
    return written, failed


def _generate(task, batch, size, background):
    batch = [settings for _, _, settings in batch]
    count = len(batch)
    if keras.config.backend() != "torch":
        # A smaller batch would compile another program, for longer than it runs.
        batch = [*batch, *[batch[-1]] * (size - count)]
    settings = {name: v for name, v in batch[0].items() if name not in _OWN}
    readers = {"hint_image": video.read_image, "mask_image": video.read_mask}
    for name in readers.keys() & batch[0].keys():
        read = readers[name]
        settings[name] = [read(own[name], background=background) for own in batch]
    return task.generate(
        [own["prompt"] for own in batch],
        negative_prompts=[own.get("negative_prompt", "") for own in batch],
        seed=[own["seed"] for own in batch],
        **settings,
    )[:count]
