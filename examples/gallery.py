"""A gallery of the bundled model: eight prompts, and control over time.

    python examples/gallery.py --out demo

Three of the prompts are of a colour, shape and motion that training never showed
together. Four of the videos are shown as strips of film. Another picture has a row for
each kind of control over time; frames that were given have a green frame.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from progress import Progress, import_quietly

import_quietly("keras_hub")

import numpy as np  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from keras_makeavid import TextToVideo, moving_shapes, video  # noqa: E402
from keras_makeavid.presets import DEFAULT_PRESET  # noqa: E402

PROMPTS = (
    "a red star moving left",
    "a blue circle bouncing on a grey background",
    "a yellow square spinning",
    "a purple triangle growing on a brown background",
    "a green dancer jumping",
    "a white dancer waving on a grey background",
    "a yellow star moving up",
    "a blue square shrinking on a brown background",
)
FILM = (4, 1, 0, 7)  # Prompts on film.
FRAME, EDGE, HOLE = 128, 24, 16  # Sides on film, in pixels.
SCALE = 2
STRIP = 16  # Frames shown of each video.
GREEN = (0, 160, 60)


def main():
    """Generate, and write an animated grid and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)

    with Progress() as progress:
        task = TextToVideo.from_preset(DEFAULT_PRESET)
        progress.at("first frames, and compiling")
        videos = task.generate(
            PROMPTS,
            seed=0,
            progress=lambda step, total: progress.at(f"step {step} of {total}"),
        )
        progress.done(f"{len(videos)} videos generated")
        found = moving_shapes.evaluate(zip(videos, PROMPTS, strict=True))
        video.write_video(options.out / "gallery.gif", grid(videos), fps=task.fps)
        films = [film(videos[n], PROMPTS[n]) for n in FILM]
        video.write_image(options.out / "film.png", np.concatenate(films))
        progress.done(f"{found.count('all')} of them show all that was asked for")
        strips = []
        for title, frames, given in controlled(task, progress):
            strips.append(strip(title, frames, given))
            progress.done(title)
        video.write_image(options.out / "control.png", np.concatenate(strips))
    for name in ("film.png", "gallery.gif", "control.png"):
        print(options.out / name)


def controlled(
    task: TextToVideo, progress: Progress
) -> Iterator[tuple[str, np.ndarray, list[int]]]:
    """A title, a video and the numbers of the frames that were given, of each kind."""
    length = task.num_frames
    # No training draws clips of this seed.
    clips = moving_shapes.MotionClips(seed=2**20, num_frames=length)

    def clip_of(motion):
        return next(
            (frames, caption)
            for frames, caption in map(clips.clip, range(1000))
            if motion in caption
        )

    def make(method, *arguments, **options):
        progress.at(f"control over time: {method.__name__}")
        return method(*arguments, seed=0, **options)[0]

    clip, caption = clip_of("bouncing")
    ends = [0, length - 1]
    # Guidance would move colours away from those of the frames that are given; and
    # between two of them the mean is best, which few steps are nearest to.
    plain = {"guidance_scale": 1.0}
    between = {**plain, "num_steps": 2}
    given = {f: clip[f] for f in ends}
    frames = make(task.generate, caption, keyframes=given, **between)
    yield f"first and last frame given: {caption}", frames, ends
    clip, caption = clip_of("moving right")
    frames = make(task.interpolate, clip[::4], 4, caption, **between)
    yield f"interpolated: {caption}", frames, list(range(0, len(frames), 4))
    clip, caption = clip_of("growing")
    frames = make(task.extend, clip[:4], 2 * length - 4, caption, **plain)
    yield f"continued from four frames: {caption}", frames, [0, 1, 2, 3]
    clip, caption = clip_of("jumping")
    other = caption.replace(caption.split()[1], "red", 1)
    frames = make(task.generate, other, video=clip, strength=0.8)
    yield f"video to video, of {caption!r}: {other}", frames, []
    texts = ("a blue star moving up", "a blue star shrinking")
    places = {0: 0, length - 1: 0, length: 1, 2 * length - 1: 1}
    frames = make(
        task.generate,
        {place: texts[text] for place, text in places.items()},
        num_frames=2 * length,
        window=length,
        overlap=length // 2,
    )
    yield f"windows, and a prompt that changes: {', '.join(texts)}", frames, []


def film(frames: np.ndarray, prompt: str) -> np.ndarray:
    """Every other frame on a strip of film, which has the prompt on its edge."""
    shown = frames[::2]
    step = FRAME + 6
    picture = Image.new("RGB", (step * len(shown), FRAME + 2 * EDGE + 8), "#1b1917")
    draw = ImageDraw.Draw(picture)
    text = f'"{prompt}"'
    written = draw.textlength(text, font_size=15) + 20
    for left in range(8, picture.width, 2 * HOLE):
        for top in (4, FRAME + EDGE + 4):
            if top > EDGE or left > written:
                box = (left, top, left + HOLE, top + HOLE)
                draw.rounded_rectangle(box, radius=4, fill="white")
    draw.text((8, 4), text, "#f2c14e", font_size=15)
    for number, frame in enumerate(shown):
        large = Image.fromarray(frame).resize((FRAME, FRAME))
        picture.paste(large, (step * number + 3, EDGE))
    draw.rectangle((0, picture.height - 8, picture.width, picture.height), "white")
    return np.asarray(picture)


def strip(title: str, frames: np.ndarray, given: list[int]) -> np.ndarray:
    """A row of frames under a title; those that were given are framed in green."""
    for number in given:
        picture = Image.fromarray(frames[number])
        ImageDraw.Draw(picture).rectangle((0, 0, 63, 63), outline=GREEN, width=3)
        frames[number] = np.asarray(picture)
    shown = np.unique([*np.linspace(0, len(frames) - 1, STRIP - 4).astype(int), *given])
    sheet = video.contact_sheet(frames[shown[:STRIP]], STRIP, max_width=1200)
    row = Image.new("RGB", (960, sheet.shape[0] + 18), "white")
    ImageDraw.Draw(row).text((4, 3), title, "black")
    row.paste(Image.fromarray(sheet), (0, 18))
    return np.asarray(row)


def grid(videos: np.ndarray) -> np.ndarray:
    """Videos `(N, F, H, W, 3)` side by side in two rows, enlarged."""
    rows = [np.concatenate(list(row), axis=2) for row in np.split(videos, 2)]
    return np.concatenate(rows, axis=1).repeat(SCALE, axis=1).repeat(SCALE, axis=2)


if __name__ == "__main__":
    main()
