"""A gallery of the bundled model: eight prompts, a video and a picture of all.

    python examples/gallery.py --out demo

Three of the prompts are of a colour, shape and motion that training never showed
together. The captions in the picture say, in red, what is not as it should be.
"""

import argparse
from pathlib import Path

from progress import Progress, import_quietly

import_quietly("keras_hub")

import numpy as np  # noqa: E402

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
SCALE = 2


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
        gallery = moving_shapes.Gallery()
        found = moving_shapes.evaluate(zip(videos, PROMPTS, strict=True), gallery.add)
        video.write_image(options.out / "gallery.png", gallery.picture())
        video.write_video(options.out / "gallery.gif", grid(videos), fps=task.fps)
        progress.done(f"{found.count('all')} of them show all that was asked for")
    for name in ("gallery.gif", "gallery.png"):
        print(options.out / name)


def grid(videos: np.ndarray) -> np.ndarray:
    """Videos `(N, F, H, W, 3)` side by side in two rows, enlarged."""
    rows = [np.concatenate(list(row), axis=2) for row in np.split(videos, 2)]
    return np.concatenate(rows, axis=1).repeat(SCALE, axis=1).repeat(SCALE, axis=2)


if __name__ == "__main__":
    main()
