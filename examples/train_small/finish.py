"""Give the trained model its defaults: frames as it was trained on, and guidance.

python examples/train_small/finish.py TRAINED PRESET
"""

import sys

from keras_makeavid import TextToVideo


def main():
    """Load, and save with the defaults."""
    trained, preset = sys.argv[1:]
    task = TextToVideo.from_preset(trained, num_frames=16, guidance_scale=4.0)
    task.save_to_preset(preset)


if __name__ == "__main__":
    main()
