"""Train in a process of its own on virtual devices, and say what came of it.

`python distributed.py DEVICES < JOBS` runs each line of JSON, a recipe, perhaps with
the `stop` at whose step a signal comes; it answers with a line of JSON each.
"""

import json
import os
import signal
import sys

DEVICES = int(sys.argv[1])
os.environ["XLA_FLAGS"] = (
    "--xla_backend_optimization_level=0 "
    f"--xla_force_host_platform_device_count={DEVICES}"
)
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import keras  # noqa: E402

from keras_makeavid.recipes import recipe_from_dict  # noqa: E402
from keras_makeavid.training import ProcessLost, train  # noqa: E402
from keras_makeavid.training.run_callback import RunCallback  # noqa: E402


def stop_at(step):
    """Send this process a signal at the end of a step of the run."""
    on_end = RunCallback.on_train_batch_end

    def act_first(self, batch, logs=None):
        if self.position.step + 1 == step:
            RunCallback.on_train_batch_end = on_end
            signal.raise_signal(signal.SIGTERM)
        on_end(self, batch, logs)

    RunCallback.on_train_batch_end = act_first


def main():
    for line in sys.stdin:
        recipe = json.loads(line)
        answer = {}
        stop = recipe.pop("stop", None)
        if stop is not None:
            stop_at(stop)
        try:
            result = train(recipe_from_dict(recipe), resume="auto")
            answer["steps"] = result.steps
            answer["signal"] = result.signal
        except ProcessLost as error:
            print(f"lost: {error}", file=sys.stderr, flush=True)
            os._exit(4)
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        answer["distribution"] = str(keras.distribution.distribution())
        print(f"ANSWER {json.dumps(answer)}", flush=True)


if __name__ == "__main__":
    main()
