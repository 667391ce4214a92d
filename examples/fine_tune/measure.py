"""Count how many videos go round in a circle, of twelve that should, and show them.

    python examples/fine_tune/measure.py circling/preset circling.png

Half of the prompts name a background, which no clip of this motion came with.
"""

import sys

import numpy as np

from keras_makeavid import TextToVideo, video
from keras_makeavid.moving_shapes.segmentation import (
    centre_of,
    segment,
    working_frames,
)

PROMPTS = [
    f"a {colour} {shape} circling{where}"
    for shape, where in (("star", ""), ("square", " on a grey background"))
    for colour in ("red", "green", "blue", "yellow", "purple", "white")
]
SHOWN = slice(0, 16, 2)


def goes_round(frames: np.ndarray) -> bool:
    """Whether the centre of what frames `(F, H, W, 3)` show turns about a point."""
    segmentation = segment(working_frames(frames))
    if segmentation is None or segmentation.visible.sum() < 3:
        return False
    centres = [centre_of(c) for c in segmentation.coverage[segmentation.visible]]
    path = np.array(centres) - np.mean(centres, axis=0)
    angles = np.unwrap(np.arctan2(path[:, 1], path[:, 0]))
    wide = np.ptp(path, axis=0).min() > 0.15 * min(segmentation.coverage.shape[1:])
    return bool(wide and abs(angles[-1] - angles[0]) > 0.75 * 2 * np.pi)


def main(arguments: list[str]):
    """Generate, count and write the picture."""
    preset, picture = arguments
    task = TextToVideo.from_preset(preset)
    videos = task.generate(PROMPTS, seed=0, progress=True)
    rows = [np.concatenate(list(frames[SHOWN]), axis=1) for frames in videos]
    columns = [np.concatenate(rows[first : first + 6]) for first in (0, 6)]
    video.write_image(picture, np.concatenate(columns, axis=1))
    print(f"{sum(map(goes_round, videos))} of {len(videos)} go round")


if __name__ == "__main__":
    main(sys.argv[1:])
