"""Put the trained models together: of videos, and of their first frames.

    python examples/train_small/finish.py VIDEO FIRST_FRAMES PRESET

What was an image model has learnt to move, and makes no images any more without its
temporal parts: another makes the first frames.
"""

import sys

from keras_makeavid import TextToVideo
from keras_makeavid.training.phases import with_parts

# The default weight of the prompt. The higher, the rounder are squares that spin.
GUIDANCE = 1.5


def main():
    """Load both, and save one preset with its defaults."""
    video, first_frames, preset = sys.argv[1:]
    task = TextToVideo.from_preset(video, dtype="float32")
    images = TextToVideo.from_preset(first_frames, dtype="float32").backbone
    whole = with_parts(
        task, image_backbone=images, num_frames=16, guidance_scale=GUIDANCE
    )
    whole.save_to_preset(preset)


if __name__ == "__main__":
    main()
