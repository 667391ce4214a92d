"""Encode a folder of captioned clips as a latent dataset."""

import os
import sys
from pathlib import Path

EXAMPLE = "makeavid encode clips dataset --preset PRESET --fps 8"


def add_arguments(option) -> None:
    """Declare the options."""
    option("clips", help="folder of video files, each with a .txt beside")
    option("out", help="dataset folder, continued if it is there")
    option("--preset", required=True, help="preset whose VAE and text encoder to use")
    option(
        "--captions",
        help="table with the columns file and caption, or file_name and text, .csv or "
        ".jsonl; captions or metadata with such a suffix in the folder if not given",
    )
    for side in ("--height", "--width"):
        option(side, type=int, help="pixels; the preset's if not given")
    option("--fps", type=float, help="frames a second; the clip's own if not given")
    option("--frames", type=int, help="frames to take of each clip; all if not given")
    option("--start", default=0.0, help="second to begin at in each clip")
    option("--split-scenes", default=False, help="make each scene a clip of its own")
    option("--background", default="white", help="colour behind transparent parts")
    option("--min-frames", default=0, help="drop clips with fewer frames")
    option("--min-size", default=0, help="drop clips of fewer pixels a side")
    option("--min-fps", default=0.0, help="drop clips of a lower rate")
    option("--half", default=False, help="store float16")
    option(
        "--workers",
        type=int,
        default=os.cpu_count(),
        help="processes that decode clips while this one encodes them, 0 for none; "
        "with --ray, workers that do both",
    )
    option(
        "--ray",
        metavar="ADDRESS",
        help="encode on a Ray cluster: its address, auto for the one that this machine "
        "is in, or local",
    )
    option("--gpus", default=0.0, help="GPUs of each worker, with --ray")


def run(options) -> None:
    """Encode, and say what was left out."""
    from keras_makeavid import TextToVideo
    from keras_makeavid.data import ClipFilter, RayWorkers, encode_clips, read_captions
    from keras_makeavid.progress import progress_bar

    clip_filter = ClipFilter(options.min_frames, options.min_size, options.min_fps)
    hidden: list[Path] = []
    captions = read_captions(options.clips, options.captions, hidden=hidden)
    workers = min(options.workers, len(captions))
    ray_workers = options.ray and RayWorkers(
        options.preset, max(1, workers), options.ray, options.gpus
    )
    task = TextToVideo.from_preset(options.preset, dtype="float32")
    with progress_bar(len(captions), "encode", unit="clip") as bar:
        report = encode_clips(
            captions,
            options.out,
            task.vae,
            task.text_encoder,
            task.preprocessor.tokenize,
            height=task.height if options.height is None else options.height,
            width=task.width if options.width is None else options.width,
            fps=options.fps,
            num_frames=options.frames,
            start=options.start,
            clip_filter=clip_filter,
            split_scenes=options.split_scenes,
            half=options.half,
            num_workers=workers,
            ray_workers=ray_workers,
            on_clip=lambda clip_id: bar.update(1),
            background=options.background,
        )
    for outcome in ("dropped", "failed"):
        for clip_id, reason in getattr(report, outcome).items():
            print(f"{outcome} {clip_id}: {reason}", file=sys.stderr)
    if hidden:
        told = f"passed over {len(hidden)} hidden or system files, such as {hidden[0]}"
        print(told, file=sys.stderr)
    print(
        f"{options.out}: {len(report.encoded)} clips encoded, {len(report.skipped)} "
        f"found finished, {len(report.dropped)} dropped, {len(report.failed)} failed"
    )
