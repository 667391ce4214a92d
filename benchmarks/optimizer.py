"""Time one `AdamW` update of the small model's UNet, with averages, under PyTorch.

    KERAS_BACKEND=torch python benchmarks/optimizer.py

Compares all variables together with the portable arithmetic, one variable after the
other.
"""

import json
import statistics
import time

import keras

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.training import AdamW


def seconds(repeats: int = 10) -> float:
    """Median time of an update."""
    unet = UNetPseudo3D(
        block_channels=(48, 96),
        attention_levels=(True, True),
        layers_per_block=1,
        num_heads=4,
        groups=16,
        context_dim=128,
    )
    optimizer = AdamW(learning_rate=1e-3, use_ema=True, ema_momentum=0.999)
    optimizer.build(unet.trainable_variables)
    gradients = [keras.random.normal(v.shape) for v in unet.trainable_variables]
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        optimizer.apply(gradients, unet.trainable_variables)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main():
    """Print one line of JSON."""
    together = seconds()
    AdamW._are_quicker_together = lambda *arguments: False
    portable = seconds()
    print(json.dumps({"together": round(together, 4), "portable": round(portable, 4)}))


if __name__ == "__main__":
    main()
