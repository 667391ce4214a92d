"""Time group normalisation of a video against the backend's own.

    KERAS_BACKEND=torch python benchmarks/group_norm.py

`(1, 8, 64, 64, C)`, float32, 32 groups, without gradients. The peer under torch is its
own `group_norm` on the same memory (its channels_last format), elsewhere
`keras.layers.GroupNormalization`. Best of the repeats, taken in turns.
"""

import argparse
import json

import forward  # first: it sets the environment
import keras
import numpy as np
from keras import ops

from keras_makeavid.compilation import compile_inference
from keras_makeavid.layers import GroupNormalization

GROUPS = 32


def peer(channels: int):
    """What the backend itself, or Keras, offers."""
    if keras.config.backend() != "torch":
        layer = keras.layers.GroupNormalization(GROUPS, epsilon=1e-5)
        layer.build((None, None, None, None, channels))
        return compile_inference(layer, [layer])
    import torch

    scale, offset = torch.ones(channels), torch.zeros(channels)

    def normalise(x):
        x = x.reshape(1, -1, x.shape[-2], channels).permute(0, 3, 1, 2)
        return torch.nn.functional.group_norm(x, GROUPS, scale, offset, 1e-5)

    return torch.inference_mode()(normalise)


def once(function, inputs) -> float:
    """Seconds of a call; converting its result, which waits for it, copies nothing."""
    return forward.best_seconds(lambda: ops.convert_to_numpy(function(inputs)), 1)


def main():
    """Print one line of JSON for each number of channels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    for channels in (32, 64, 128):
        noise = np.random.default_rng(0).standard_normal((1, 8, 64, 64, channels))
        inputs = ops.convert_to_tensor(noise.astype("float32"))
        layer = GroupNormalization(GROUPS, epsilon=1e-5)
        layer.build(inputs.shape)
        timed = {"ours": compile_inference(layer, [layer]), "peer": peer(channels)}
        seconds = dict.fromkeys(timed, float("inf"))
        for _ in range(arguments.repeats):
            for name, function in timed.items():
                seconds[name] = min(seconds[name], once(function, inputs))
        result = {
            "backend": keras.config.backend(),
            "elements": noise.size,
            "milliseconds": round(1e3 * seconds["ours"], 2),
            "of_the_peer_s_time": round(seconds["ours"] / seconds["peer"], 2),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
