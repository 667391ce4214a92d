"""The same trajectory by this package and by diffusers, of any scheduler's file.

`KERAS_BACKEND=jax python tests/trajectories.py` prints the largest error of each.
"""

import dataclasses
import importlib
from unittest import mock

import diffusers
import keras
import numpy as np
import torch

from keras_makeavid.schedulers import (
    DDIM,
    LCM,
    TCD,
    DPMSolverPlusPlus,
    Euler,
    EulerAncestral,
    NoiseSchedule,
    SamplerState,
    StepTable,
    UniPC,
    step,
)

SD15 = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
ANIMATE_DIFF = SD15 | {"beta_schedule": "linear"}
NUM_STEPS = (1, 2, 4, 8, 20, 50)
SHAPE = (2, 3, 4, 4, 4)
ALL_BUT_THE_STEPS = (1, 2, 3, 4, 5)

KARRAS = {"use_karras_sigmas": True}
THEIR_NAMES = {"use_karras_sigmas": "karras_sigmas"}
OURS = {
    "DDIMScheduler": DDIM,
    "DPMSolverMultistepScheduler": DPMSolverPlusPlus,
    "EulerDiscreteScheduler": Euler,
    "EulerAncestralDiscreteScheduler": EulerAncestral,
    "LCMScheduler": LCM,
    "TCDScheduler": TCD,
    "UniPCMultistepScheduler": UniPC,
}
DPM, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
# diffusers' class, what is added to the file, and `eta` of its steps.
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}, None),
    "ddim eta": ("DDIMScheduler", {}, 0.7),
    "dpm++2m": (DPM, {}, None),
    "dpm++2m karras": (DPM, KARRAS, None),
    "unipc": (UNIPC, {}, None),
    "unipc karras": (UNIPC, KARRAS, None),
    "euler": ("EulerDiscreteScheduler", {}, None),
    "euler ancestral": ("EulerAncestralDiscreteScheduler", {}, None),
    "lcm": ("LCMScheduler", {}, None),
    "tcd": ("TCDScheduler", {}, 0.3),
    "tcd deterministic": ("TCDScheduler", {}, 0.0),
    "tcd clean": ("TCDScheduler", {}, 1.0),
}


def file_of(name, **changes):
    """A scheduler's file, and `eta` of its steps."""
    class_name, additions, eta = SCHEDULERS[name]
    return SD15 | {"_class_name": class_name} | additions | changes, eta


def make_model(prediction_type, alphas_cumprod):
    """The ideal model of Gaussian data, bent by a smooth term.

    A fixed arbitrary function would do for the arithmetic, but its clean latents would
    be 15 times as large as any real model's, and float32 rounding with them.
    """

    def model(sample, timestep):
        sample = np.asarray(sample, "float64")
        mean = np.sin(np.arange(sample.size)).reshape(sample.shape)
        alpha = np.interp(timestep, np.arange(len(alphas_cumprod)), alphas_cumprod)
        signal, sigma = np.sqrt(alpha), np.sqrt(1 - alpha)
        variance = 0.25 * alpha + sigma**2
        bend = 0.3 * np.tanh(sample + mean)
        noise = sigma * (sample - signal * mean) / variance + signal * bend
        clean = (0.25 * signal * sample + sigma**2 * mean) / variance - sigma * bend
        velocity = signal * noise - sigma * clean
        outputs = {"epsilon": noise, "sample": clean, "v_prediction": velocity}
        return outputs[prediction_type].astype("float32")

    return model


def draw(num_steps):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(num_steps + 1, *SHAPE)).astype("float32")
    return noise[0], noise[1:]


def our_trajectory(table, model, convert=np.asarray):
    """Every sample, computed on what `convert` makes of arrays."""
    noise, fresh_noise = draw(len(table.timesteps))
    start = convert(noise * np.float32(table.initial_sigma))
    state, rows, samples = SamplerState.start(start), convert(table.as_array()), []
    for i, timestep in enumerate(table.timesteps):
        row = StepTable.row(rows[i])
        model_input = keras.ops.convert_to_numpy(state.sample * row.input_scale)
        prediction = convert(model(model_input, timestep))
        state = step(row, state, prediction, convert(fresh_noise[i]))
        samples.append(keras.ops.convert_to_numpy(state.sample))
    return np.stack(samples)


def their_trajectory(theirs, model, options):
    """The same by a scheduler of diffusers, given the same noise."""
    noise, fresh_noise = draw(len(theirs.timesteps))
    sample = torch.tensor(noise) * theirs.init_noise_sigma
    module, samples = importlib.import_module(type(theirs).__module__), []
    for timestep, fresh in zip(theirs.timesteps, fresh_noise, strict=True):
        model_input = theirs.scale_model_input(sample, timestep)
        prediction = torch.tensor(model(model_input.numpy(), float(timestep)))
        with mock.patch.object(
            module, "randn_tensor", lambda *_, noise=fresh, **__: torch.tensor(noise),
            create=True,
        ):  # fmt: skip
            sample = theirs.step(prediction, timestep, sample, **options).prev_sample
        samples.append(sample.numpy())
    return np.stack(samples)


def make_pair(config, eta=None):
    """Our scheduler and theirs, out of one file and `eta` of a step."""
    kind = OURS[config["_class_name"]]
    names = {field.name for field in dataclasses.fields(kind)}
    settings = {THEIR_NAMES.get(key, key): value for key, value in config.items()}
    if eta is not None:
        settings |= {"gamma" if kind is TCD else "eta": eta}
    settings = {name: value for name, value in settings.items() if name in names}
    ours = kind(NoiseSchedule.from_diffusers_config(config), **settings)
    return ours, getattr(diffusers, config["_class_name"]).from_config(config)


def set_timesteps(theirs, num_steps):
    """Begin at the first timestep.

    Left to itself it looks that up by value, and goes wrong where Karras spacing has it
    twice.
    """
    theirs.set_timesteps(num_steps)
    if hasattr(theirs, "set_begin_index"):
        theirs.set_begin_index(0)


def carried_scale(table):
    """Noise level of the sample before the one that a step works on.

    A sample of scale sigma carries float32 rounding of that scale into the sample that
    the next step works on. It is 1 for samplers whose samples have variance 1.
    """
    scale = 1 / table.input_scale
    return np.concatenate([scale[:1], scale[:-1]])


def errors(name, num_steps, convert=np.asarray, **changes):
    """Largest difference of each sample, and the scale that rounding carries there."""
    config, eta = file_of(name, **changes)
    ours, theirs = make_pair(config, eta)
    model = make_model(theirs.config.prediction_type, ours.schedule.alphas_cumprod)
    table = ours.table(num_steps)
    set_timesteps(theirs, num_steps)
    options = {} if eta is None else {"eta": eta}
    error = our_trajectory(table, model, convert)
    error -= their_trajectory(theirs, model, options)
    return np.abs(error).max(axis=ALL_BUT_THE_STEPS), carried_scale(table)


def largest_error(name, num_steps, convert=np.asarray, **changes):
    """The largest difference, relative to that scale; NaN if there is one."""
    differences, scale = errors(name, num_steps, convert, **changes)
    return (differences / scale).max()


def main():
    """Print a row for each scheduler: the largest error over all numbers of steps."""
    convert = keras.ops.convert_to_tensor
    print(f"| scheduler, on {keras.backend.backend()} | largest error |\n|---|---|")
    for name in SCHEDULERS:
        found = [
            largest_error(name, num_steps, convert, prediction_type=prediction_type)
            for num_steps in NUM_STEPS
            for prediction_type in ("epsilon", "v_prediction")
        ]
        print(f"| {name} | {max(found):.1e} |", flush=True)


if __name__ == "__main__":
    main()
