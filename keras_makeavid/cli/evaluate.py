"""Generate videos for prompts of moving shapes, and measure what they show.

Exits with 1 if they are below the bar of the small model.
"""

import sys

from keras_makeavid.cli.options import add_sampling_options, check_at_least_one

EXAMPLE = "makeavid evaluate --seeds 4 --out evaluation"


def add_arguments(option) -> None:
    """Declare the options."""
    option("--frames", type=int, help="number of frames; the preset's if not given")
    add_sampling_options(option)
    option(
        "--prompts",
        help="text file, a prompt a line; a balanced list of triples that training "
        "shows and of triples held out of it if not given",
    )
    option("--count", default=24, help="prompts of each kind in that list")
    option("--wordings", default=False, help="draw a wording of each of these prompts")
    option("--seeds", default=4, help="videos of each prompt")
    option(
        "--control",
        default=False,
        help="measure in-betweens (in two steps) and continuation, both without "
        "guidance, long videos and prompts that change, two --count videos of each, in "
        "place of prompts",
    )
    option("--hints", default=False, help="give videos true first frames as hints")
    option("--spatial-only", default=False, help="leave out the temporal parts")
    option("--out", default="evaluation", help="folder of the report")
    option("--no-bar", default=False, help="exit with 0, whatever the videos show")


def prepare(options) -> None:
    """Refuse wrong numbers and folders; read the prompts."""
    from keras_makeavid.files import existing_parent
    from keras_makeavid.moving_shapes import default_prompts, read_prompts

    check_at_least_one(options, "seeds", "frames", "steps")
    if options.prompts is None:
        options.prompts = default_prompts(options.count, options.wordings)
    elif options.wordings:
        raise ValueError("--wordings does not go with --prompts, which has its own")
    else:
        options.prompts = read_prompts(options.prompts)
    existing_parent(options.out)


def run(options) -> int:
    """Generate, measure and report; 1 if something is below the bar."""
    if options.control:
        return _run_control(options)
    from keras_makeavid import TextToVideo, moving_shapes
    from keras_makeavid.progress import progress_bar

    prompts = options.prompts
    task = TextToVideo.from_preset(options.preset, few_steps=bool(options.few_steps))
    vae_psnr = round(moving_shapes.vae_psnr(task), 1)
    if options.frames is None:
        options.frames = task.num_frames
    if options.guidance is None:
        options.guidance = task.guidance_scale
    if options.steps is None:
        options.steps = task.num_steps
    gallery = moving_shapes.Gallery(fps=task.fps)
    with progress_bar(len(prompts) * options.seeds, "evaluate", unit="video") as bar:

        def on_result(result, frames):
            gallery.add(result, frames)
            bar.update(1)

        videos = moving_shapes.generate_videos(
            task,
            prompts,
            num_seeds=options.seeds,
            num_frames=options.frames,
            num_steps=options.steps,
            guidance_scale=options.guidance,
            hints=options.hints,
            spatial_only=options.spatial_only,
        )
        result = moving_shapes.evaluate(videos, on_result)
    names = (
        *("preset", "few_steps", "wordings", "seeds", "frames", "steps", "guidance"),
        *("hints", "spatial_only"),
    )
    settings = {name: getattr(options, name) for name in names}
    settings["vae_psnr"] = vae_psnr
    paths = moving_shapes.write_report(options.out, result, gallery, settings)
    print(moving_shapes.markdown_table(result))
    print(f"VAE: {vae_psnr} dB on pictures that training does not show")
    for path in paths:
        print(path)
    failures = moving_shapes.failures(result)
    for failure in failures:
        print(f"below the bar: {failure}", file=sys.stderr)
    return int(bool(failures) and not options.no_bar)


def _run_control(options) -> int:
    from pathlib import Path

    from keras_makeavid import TextToVideo
    from keras_makeavid.json_files import write_json
    from keras_makeavid.moving_shapes.control import evaluate_control
    from keras_makeavid.video import contact_sheet, write_image

    first = {}

    def on_video(name, frames):
        if name not in first:
            print(f"{name} ...", file=sys.stderr)
            first[name] = frames

    task = TextToVideo.from_preset(options.preset, few_steps=bool(options.few_steps))
    how = {"num_steps": options.steps, "guidance_scale": options.guidance}
    rows = evaluate_control(task, 2 * options.count, on_video, **how)
    out = Path(options.out)
    out.mkdir(exist_ok=True)
    write_json(out / "control.json", [row._asdict() for row in rows])
    for name, frames in first.items():
        path = out / f"{name.replace(' ', '_')}.png"
        write_image(path, contact_sheet(frames))
    print("| | measured | bar |\n|---|---|---|")
    for row in rows:
        bound = "at most" if row.most else "at least"
        print(f"| {row.name} | {row.value:.3g} | {bound} {row.bar:g} |")
    return int(not all(row.holds for row in rows) and not options.no_bar)
