"""Trainings of several devices and processes: forks of one that has imported all.

Lines of JSON come in, each a list of processes that run at once: `devices`,
`environment` and `jobs`. A line goes out when they have ended, of each its exit `code`,
its `seconds_after_the_first`, what it printed (`told`) and what its jobs returned
(`answers`).
"""

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path


def main():
    # What a job would import when it first needs it.
    import grain  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    from keras_makeavid import training  # noqa: F401

    for line in sys.stdin:
        with tempfile.TemporaryDirectory() as folder:
            folders = {
                start(Path(folder) / str(number), **process): Path(folder, str(number))
                for number, process in enumerate(json.loads(line))
            }
            print(json.dumps(ended(folders)), flush=True)


def start(folder, devices, jobs, environment=()):
    """Fork a process that leaves what it prints and answers in a folder."""
    folder.mkdir()
    child = os.fork()
    if child:
        return child
    told = os.open(folder / "told", os.O_CREAT | os.O_WRONLY)
    os.dup2(told, 1)
    os.dup2(told, 2)
    os.environ.update(environment)
    os.environ["XLA_FLAGS"] += f" --xla_force_host_platform_device_count={devices}"
    code = 1
    try:
        with (folder / "answers").open("w") as answers:
            for job in jobs:
                answer = JOBS[job.pop("do")](**job)
                print(json.dumps(answer), file=answers, flush=True)
        # As at the end of a program: JAX's processes take leave of one another.
        import jax

        jax.distributed.shutdown()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(folders):
    """Wait for the processes, and say what came of each; `folders` is by their ids."""
    ends = {}
    while len(ends) < len(folders):
        child, status = os.wait()
        ends[child] = time.monotonic(), os.waitstatus_to_exitcode(status)
    first = min(ends.values())[0]
    return [
        {
            "code": ends[child][1],
            "seconds_after_the_first": ends[child][0] - first,
            "told": (folder / "told").read_text(errors="replace"),
            "answers": list(map(json.loads, (folder / "answers").open())),
        }
        for child, folder in folders.items()
    ]


def train(recipe, stop=None, signals=signal.SIGTERM):
    """Train; a signal may come at the end of a step of the run."""
    import keras

    from keras_makeavid import training
    from keras_makeavid.recipes import recipe_from_dict

    if stop is not None:
        _stop_at(stop, signals)
    before = keras.distribution.distribution()
    result = training.train(recipe_from_dict(recipe), resume="auto")
    assert keras.distribution.distribution() is before
    return {"steps": result.steps, "signal": result.signal}


def _stop_at(step, signals):
    from keras_makeavid.training.run_callback import RunCallback

    on_end = RunCallback.on_train_batch_end

    def act_first(self, batch, logs=None):
        if self.position.step + 1 == step:
            RunCallback.on_train_batch_end = on_end
            signal.raise_signal(signals)
        on_end(self, batch, logs)

    RunCallback.on_train_batch_end = act_first


def generate(preset, distribution, prompts):
    """Generate on one device and under a distribution; the largest differences."""
    import numpy as np

    from keras_makeavid import TextToVideo
    from keras_makeavid.recipes.schema import Distribution
    from keras_makeavid.training import make_distribution

    hint = np.random.default_rng(0).integers(0, 256, (128, 128, 3), "uint8")
    options = {
        "hint_image": hint,
        "num_frames": 2,
        "num_steps": 2,
        "guidance_scale": 3.0,
    }
    task = TextToVideo.from_preset(preset)
    expected = task.generate(prompts, seed=0, **options).astype(int)
    with make_distribution(Distribution(**distribution)).scope():
        task = TextToVideo.from_preset(preset)
        together = task.generate(prompts, seed=0, **options)
        alone = task.generate(prompts[-1:], seed=len(prompts) - 1, **options)
    differences = together - expected, alone - expected[-1:]
    return {
        "differences": [int(np.abs(difference).max()) for difference in differences],
        "spread": int(np.ptp(expected)),
    }


def compile_step(preset, batch, trainable, distribution):
    """The text of the compiled training step, and the shapes of what it trains."""
    import jax
    import numpy as np

    from keras_makeavid import TextToVideo
    from keras_makeavid.recipes.schema import Distribution
    from keras_makeavid.schedulers import NoiseSchedule
    from keras_makeavid.training import AdamW, VideoDiffusion, make_distribution

    distribution = make_distribution(Distribution(**distribution))
    with distribution.scope():
        unet = TextToVideo.from_preset(preset).backbone
        model = VideoDiffusion(
            unet,
            schedule=NoiseSchedule(),
            latent_scale=1.0,
            trainable=trainable,
            seed=0,
        )
        model.compile(optimizer=AdamW(use_ema=True))
        model.optimizer.build(model.trainable_variables)
        state = tuple(
            [variable.value for variable in variables]
            for variables in (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
        )
        shapes = {"latents": (batch, 3, 2, 2, 4), "context": (batch, 12, 16)}
        data = {
            name: jax.device_put(
                np.zeros(shape, "float16"),
                distribution.get_data_layout(shape).backend_layout,
            )
            for name, shape in shapes.items()
        }
        # As keras.Model.make_train_function does.
        out = (None, jax.tree.map(lambda value: value.sharding, state))
        step = jax.jit(model.train_step, donate_argnums=0, out_shardings=out)
        text = step.lower(state, (data,)).compile().as_text()
    shard_sizes = [
        [value.size, value.addressable_shards[0].data.size]
        for variables in (state[0], state[2])
        for value in variables
    ]
    return {
        "text": text,
        "trainable": [list(variable.shape) for variable in model.trainable_variables],
        "frozen": [list(variable.shape) for variable in model.non_trainable_variables],
        "shard_sizes": shard_sizes,
    }


JOBS = {"train": train, "generate": generate, "compile_step": compile_step}


if __name__ == "__main__":
    main()
