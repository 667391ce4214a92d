"""Generate a video from a prompt, and from a hint image if there is one."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_makeavid.cli.options import add_sampling_options, check_at_least_one
from keras_makeavid.files import missing_file
from keras_makeavid.presets import DEFAULT_PRESET

EXAMPLE = 'makeavid generate "a red star moving left" --seed 7 --out star.mp4'

if TYPE_CHECKING:
    from keras_makeavid import TextToVideo

# Who asks for one of these samples as the preset was trained: few steps are measured
# with prompts and hints alone.
_NOT_IN_FEW = (
    *("steps", "scheduler", "guidance", "image_guidance", "negative", "freeu"),
    *("guidance_rescale", "prompts", "mask", "keyframe", "video", "window"),
    *("prompt_at", "quantize"),
)
_FORMATS = ("mp4", "gif", "webp", "png")


def add_arguments(option) -> None:
    """Declare the options."""
    option("prompt", nargs="?", help="what to show")
    option(
        "--prompts",
        help="in place of a prompt, a file of many: one a line, or .jsonl with prompt, "
        "seed, hint_image and such; --out is a folder then, and what is in it already "
        "is not made again",
    )
    option("--batch-size", default=1, help="videos at once, with --prompts")
    option(
        "--ray",
        metavar="ADDRESS",
        help="make the videos of --prompts on a Ray cluster: its address, auto for the "
        "one that this machine is in, or local",
    )
    option("--workers", default=1, help="workers, with --ray")
    option("--gpus", default=0.0, help="GPUs of each worker, with --ray")
    option(
        "--prompt-at",
        metavar="N=TEXT",
        default=[],
        type=_at_frame,
        help="another prompt from frame N on, which that before it turns into",
    )
    option("--hint", help="picture to set in motion")
    option("--mask", help="picture: white is to be filled, black is kept")
    option(
        "--keyframe",
        metavar="N=PICTURE",
        default=[],
        type=_at_frame,
        help="picture of frame N, from 0, or from -1 for the last one",
    )
    option("--video", help="video to change, in the place of --frames")
    option("--strength", default=0.6, help="how much of --video may change, up to 1")
    option("--frames", type=int, help="number of frames; the preset's if not given")
    option("--image-guidance", type=float, help="of a first frame; else --guidance")
    option("--window", type=int, help="frames made at once, in longer videos; else all")
    option("--overlap", type=int, help="frames that windows share; else a quarter")
    option("--shared-noise", default=False, help="windows share one noise, shuffled")
    usual = ", as is usual where it has one and nothing is said of sampling or control"
    add_video_options(option, usual)


def add_video_options(option, few_steps: str = "") -> None:
    """Declare what all commands have that make videos: files, model, sampling."""
    add_sampling_options(option, few_steps)
    option(
        "--out",
        help="file to write: .mp4, .gif, .webp, or a folder of PNG frames; else video, "
        "of --format. A contact sheet of the frames is written beside it",
    )
    option(
        "--format",
        choices=_FORMATS,
        help="file format if --out is not given (mp4 by default); png writes a folder",
    )
    option("--negative", default="", help="what to avoid")
    option(
        "--background",
        default="white",
        help="colour behind transparent parts of pictures and clips, or #808080",
    )
    for side in ("--height", "--width"):
        option(side, type=int, help="pixels, a multiple of 32; else the preset's")
    option("--fps", type=float, help="frames a second; the preset's if not given")
    option("--guidance-rescale", default=0.0, help="0 to 1, against blown contrast")
    option(
        "--guidance-interval",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=(0.0, 1.0),
        help="noise levels from 0 to 1 with guidance; steps at others cost half",
    )
    option(
        "--cache-interval",
        default=1,
        help="pass the whole UNet in one of so many steps, and its last layers in the "
        "others: faster, and a little less true",
    )
    option(
        "--freeu",
        type=float,
        nargs=4,
        metavar=("B1", "B2", "S1", "S2"),
        help="factors of FreeU, such as 1.5 1.6 0.9 0.2",
    )
    option(
        "--free-init",
        default=1,
        help="make each video so often, each time from the slow changes of the one "
        "before, for less flicker",
    )
    option(
        "--scheduler",
        help="dpm++2m, dpm++2m-karras, unipc, ddim, euler, euler-trailing, "
        "euler-ancestral; lcm or tcd for models distilled to few steps; the preset's "
        "if not given",
    )
    option("--tile", type=int, help="side in pixels of tiles that frames are coded in")
    option(
        "--fast-decode",
        metavar="DECODER",
        help="decode by the tiny decoder of this folder, file or handle, such as "
        "hf://madebyollin/taesd",
    )
    option(
        "--lora",
        metavar="FILE[:SCALE]",
        default=[],
        type=_lora,
        help="adapters (LoRA) of kohya or diffusers to load, and their weight, else 1",
    )
    option("--embedding", metavar="FILE", default=[], help="learnt token to load")
    option("--prompt-weighting", default=False, help="weigh (word), (word:1.3), [word]")
    option("--long-prompts", default=False, help="read over 75 tokens, in windows")
    option("--seed", type=int, help="a random one if not given")
    option(
        "--dtype",
        help="dtype policy, such as bfloat16 or stored_bfloat16; half precision on an "
        "accelerator and float32 on a CPU if not given",
    )
    option(
        "--low-memory",
        default=False,
        help="take less memory and longer: guidance one pass after the other, each "
        "part on the accelerator only while it works",
    )
    option("--quantize", choices=("int8",), help="weights of UNet and VAE in int8")


def _at_frame(text: str) -> tuple[int, str]:
    """A frame's number and what is said of it."""
    frame, _, value = text.partition("=")
    try:
        return int(frame), value
    except ValueError:
        expected = "must be a frame's number, = and a value"
        raise argparse.ArgumentTypeError(f"{expected}. Received: {text!r}") from None


def _lora(text: str) -> tuple[str, float]:
    """The file and the scale, without which a colon is the name's own."""
    path, colon, scale = text.rpartition(":")
    if colon and not os.path.exists(text):
        with contextlib.suppress(ValueError):
            return path, float(scale)
    return text, 1.0


def prepare(options) -> None:
    """Refuse wrong files and numbers, read the pictures, fill in the paths to write."""
    from keras_makeavid import video

    if (options.prompt is None) == (options.prompts is None):
        raise ValueError("One of PROMPT and --prompts is wanted, and not both.")
    check_at_least_one(options, "frames", "steps", "batch_size")
    said = any(getattr(options, name) for name in _NOT_IN_FEW)
    said |= tuple(options.guidance_interval) != (0, 1)
    said |= options.cache_interval > 1 or options.free_init > 1
    if options.few_steps is None and said:
        options.few_steps = False
    if options.prompts is not None:
        if options.format == "png":
            raise ValueError("--prompts writes video files alone, no PNG.")
        # Workers of Ray load the preset, and nothing beside it.
        others = (
            *("lora", "embedding", "fast_decode", "quantize", "low_memory", "dtype"),
            "few_steps",
        )
        for partner, names in (
            ("prompts", ("keyframe", "video", "window", "prompt_at")),
            ("ray", others if options.ray else ()),
        ):
            for name in names:
                if getattr(options, name):
                    option = name.replace("_", "-")
                    raise ValueError(f"--{option} does not go with --{partner}")
        options.out = options.out or "videos"
        return
    prepare_sampling(options)
    if options.hint is not None:
        options.hint = video.read_image(options.hint, background=options.background)
    if options.mask is not None:
        options.mask = video.read_mask(options.mask, background=options.background)
    options.keyframes = {
        frame: video.read_image(path, background=options.background)
        for frame, path in options.keyframe
    }
    if len(options.keyframes) < len(options.keyframe):
        raise ValueError("--keyframe takes one picture for a frame")
    if options.video is not None:
        path, fps, colour = options.video, options.fps, options.background
        options.video = video.read_video(
            path, fps=fps, num_frames=options.frames, background=colour
        )
        if fps is None:
            # Its own, at which it goes on as fast as it was.
            options.fps = video.probe(path).fps
    if options.prompt_at:
        options.prompt = {0: options.prompt, **dict(options.prompt_at)}
        if len(options.prompt) <= len(options.prompt_at):
            raise ValueError("--prompt-at takes one text for a frame above 0")
    elif options.preset == DEFAULT_PRESET:
        from keras_makeavid.moving_shapes import note_on

        note = note_on(options.prompt)
        if note is not None:
            print(f"note: {note}", file=sys.stderr)


def prepare_sampling(options) -> None:
    """Refuse wrong files of what all commands have, fill in the paths to write."""
    from keras_makeavid import video

    if options.out is None:
        suffix = f".{options.format or 'mp4'}"
        options.out = "video" if suffix == ".png" else f"video{suffix}"
    elif options.format is not None:
        raise ValueError("--format does not go with --out, whose ending says it")
    video.check_video_path(options.out, 8 if options.fps is None else options.fps)
    for path in (*options.embedding, *(path for path, _ in options.lora)):
        if not os.path.exists(path):
            raise missing_file(Path(path))


def load_task(options) -> TextToVideo:
    """The task of the options, with what they load."""
    from keras_makeavid import TextToVideo
    from keras_makeavid.dtype_policies import policy_of
    from keras_makeavid.schedulers import get_scheduler

    if options.scheduler is not None:
        get_scheduler(options.scheduler)
    dtype = options.dtype
    if options.quantize is not None:
        widened = policy_of(dtype).compute_dtype
        # Keras has no int8 beside float16.
        widened = "float32" if widened == "float16" else widened
        dtype = f"{options.quantize}_from_{widened}"
    preset, low_memory = options.preset, options.low_memory
    task = TextToVideo.from_preset(
        preset, dtype=dtype, low_memory=low_memory, few_steps=options.few_steps
    )
    if options.fast_decode is not None:
        task.load_fast_decoder(options.fast_decode)
    for path in options.embedding:
        task.load_embedding(path)
    for path, scale in options.lora:
        task.load_lora(path, scale)
    return task


def run(options) -> int:
    """Generate and write; the exit code is 1 if a line of `--prompts` failed."""
    from keras_makeavid import video

    if options.prompts is not None:
        return _run_many(options)
    task = load_task(options)
    fps = task.fps if options.fps is None else options.fps
    video.check_video_path(options.out, fps)
    frames = task.generate(
        options.prompt,
        hint_image=options.hint,
        mask_image=options.mask,
        keyframes=options.keyframes or None,
        **_named(options, "video strength window overlap shared_noise"),
        **_own_settings(options),
        **settings(options),
    )[0]
    write(options, frames, fps)
    return 0


def settings(options) -> dict[str, Any]:
    """Arguments of `generate` that all commands have that make a video."""
    own = {"seed": options.seed, "negative_prompts": options.negative}
    return {**own, "progress": True, **_shared_settings(options)}


def write(options, frames, fps: float) -> None:
    """Write a video `(F, H, W, 3)` and its sheet, and say where they are."""
    from keras_makeavid import video

    video.write_video(options.out, frames, fps=fps)
    sheet = f"{os.path.splitext(options.out.rstrip(os.sep))[0]}_sheet.png"
    video.write_image(sheet, video.contact_sheet(frames))
    print(options.out)
    print(sheet)


def _named(options, names: str) -> dict[str, Any]:
    """Options that have the names of arguments."""
    return {name: getattr(options, name) for name in names.split()}


def _own_settings(options):
    """Those of `makeavid generate` alone, for one video and for many."""
    return {
        "num_frames": options.frames,
        "guidance_scale": options.guidance,
        "image_guidance_scale": options.image_guidance,
    }


def _shared_settings(options):
    """Those of every command, for one video and for many."""
    return {
        **_named(options, "height width scheduler prompt_weighting long_prompts"),
        **_named(options, "guidance_rescale guidance_interval cache_interval"),
        **_named(options, "freeu free_init"),
        "num_steps": options.steps,
        "tile_size": options.tile,
        "fast_decode": options.fast_decode is not None,
    }


def _run_many(options):
    from keras_makeavid.progress import progress_bar
    from keras_makeavid.ray_workers import RayWorkers
    from keras_makeavid.tasks.many import generate_many, read_requests

    requests, problems = read_requests(options.prompts)
    for problem in problems.values():
        print(problem, file=sys.stderr)
    task = load_task(options)
    defaults = {
        "negative_prompt": options.negative or None,
        "hint_image": options.hint and os.path.abspath(options.hint),
        "mask_image": options.mask and os.path.abspath(options.mask),
        **_own_settings(options),
        **_shared_settings(options),
    }
    with progress_bar(len(requests), "generate", unit="video") as bar:
        report = generate_many(
            task,
            requests,
            options.out,
            batch_size=options.batch_size,
            suffix=f".{options.format or 'mp4'}",
            fps=options.fps,
            seed=options.seed or 0,
            background=options.background,
            on_video=lambda number: bar.update(1),
            ray_workers=options.ray
            and RayWorkers(options.preset, options.workers, options.ray, options.gpus),
            **{name: value for name, value in defaults.items() if value is not None},
        )
    for number, problem in report.failed.items():
        print(f"line {number} of {options.prompts}: {problem}", file=sys.stderr)
    failed = len(problems) + len(report.failed)
    print(
        f"{options.out}: {len(report.written)} videos written, {len(report.found)} "
        f"found finished, {failed} failed"
    )
    return 1 if failed else 0
