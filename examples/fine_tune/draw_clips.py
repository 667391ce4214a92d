"""Clips of a motion that the small model does not know, in the place of your own.

    python examples/fine_tune/draw_clips.py CLIPS [COUNT]

Shapes that go round in a circle, in every colour, and as many clips of what the model
knows already, so that it stays known: an MP4 file of each, and its caption in a text
file beside it.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from keras_makeavid import video
from keras_makeavid.data.motions import (
    Description,
    MotionClips,
    draw_scene_of,
    render_at,
)

COUNT = 96
FRAMES = 16
FPS = 8
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star")


def circling(number: int) -> tuple[np.ndarray, str]:
    """Frames `(F, 64, 64, 3)` of a clip, and its caption."""
    rng = np.random.default_rng(number)
    colour, shape = COLOURS[number % 6], SHAPES[number // 6 % 4]
    still = draw_scene_of(Description(colour, shape, "bouncing"), rng)
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, FRAMES)
    way = rng.uniform(0.15, 0.21)
    places = zip(0.5 + way * np.cos(angles), 0.5 + way * np.sin(angles), strict=True)
    scenes = [dataclasses.replace(still, x=x, y=y) for x, y in places]
    frames = [render_at(scene, np.zeros(1))[0] for scene in scenes]
    return np.stack(frames), f"a {colour} {shape} circling"


def main(arguments: list[str]):
    """Draw the clips and write them with their captions."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    known = MotionClips(seed=1)
    count = int(arguments[1]) if len(arguments) > 1 else COUNT
    for number in range(count):
        for kind, (frames, caption) in (
            ("new", circling(number)),
            ("known", known.clip(number)),
        ):
            video.write_video(folder / f"{kind}_{number:02}.mp4", frames, fps=FPS)
            (folder / f"{kind}_{number:02}.txt").write_text(caption)
    print(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
