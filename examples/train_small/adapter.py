"""Put a distilled adapter, LORA, into its PRESET, in float16.

python examples/train_small/adapter.py LORA PRESET
"""

import sys
from pathlib import Path

from safetensors.numpy import load_file, save

from keras_makeavid.files import written_aside
from keras_makeavid.presets import FEW_STEPS_FILE


def main():
    """Read, round and write it, whole or not at all."""
    lora, preset = map(Path, sys.argv[1:])
    tensors = {n: tensor.astype("float16") for n, tensor in load_file(lora).items()}
    with written_aside(preset / FEW_STEPS_FILE) as aside:
        aside.write_bytes(save(tensors))


if __name__ == "__main__":
    main()
