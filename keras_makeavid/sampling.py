"""The denoising loop: noise, text and hint to latents, as one compiled program."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_makeavid.compilation import (
    compile_inference,
    compile_part,
    host_callback,
    host_callback_when,
    wait_for_host_callbacks,
    weights_of_loop,
)
from keras_makeavid.devices import shard_batch
from keras_makeavid.models import AutoencoderTiny
from keras_makeavid.previews import Preview, preview_frames
from keras_makeavid.schedulers import StepTable, step
from keras_makeavid.schedulers.step_table import StepRow

# Step noise is padded to a multiple of these steps, so that few shapes are compiled.
# Padded to a thousand it would not fit into memory.
_NOISE_STEPS = 50
# Each call has an int32 number, by which the program finds its progress callback.
_MOST_CALLS = 2**31
# A table is padded to these rows, so that the number of steps compiles nothing anew.
_LEAST_ROWS = 1000


class Conditions(NamedTuple):
    """What a latent is denoised towards; tensors only."""

    context: Any  # Text states `(B, L, D)`.
    negative_context: Any  # The same, to move away from.
    guidance_scale: Any  # A scalar.
    mask: Any  # `(B, F, H, W, 1)` or `(B, H, W, 1)`: 1 is to be filled, 0 is given.
    hint: Any  # Latents `(B, F, H, W, C)` or `(B, H, W, C)`.


class DenoisingLoop:
    """All sampling steps of a UNet as one compiled program.

    The number of steps, the scheduler's coefficients, text, hint, mask, noise and
    guidance are arguments of the program: none of them compiles it again. Guidance
    of 1 is a program of its own, with one UNet pass a step instead of a batch of two;
    so is each 50 steps more of a scheduler that adds noise.

    If the UNet takes only the latent's channels, mask and hint are left out.
    """

    def __init__(self, unet):
        self._unet = unet
        self._programs = {}
        # The callback of each running call, by its number; each thread may have one.
        self._progress = {}
        self._previews = {}
        self._numbers = itertools.count()

    def __call__(
        self,
        noise: np.ndarray,
        conditions: Conditions,
        table: StepTable,
        step_noise: np.ndarray | None = None,
        progress: Callable[[int], None] | None = None,
        spatial_only: bool = False,
        preview: Preview | None = None,
    ):
        """Denoise.

        Args:
            noise: `(B, F, H, W, C)` or `(B, H, W, C)`, standard normal.
            conditions: Arrays or tensors.
            table: The scheduler's steps.
            step_noise: `(num_steps, *noise.shape)`, standard normal, for a table that
                `needs_noise`.
            progress: Called with the number of steps done after each step.
            spatial_only: Whether to leave out the UNet's temporal parts.
            preview: How the expected result `(B, F, H, W, C)` is shown on the way.

        Returns:
            Latents of the shape of `noise`, float32.
        """
        guided = float(conditions.guidance_scale) != 1.0
        arguments = keras.tree.map_structure(
            lambda x: ops.convert_to_tensor(x, "float32"),
            (noise * table.initial_sigma, tuple(conditions), _padded(table)),
        )
        if step_noise is not None:
            missing = -len(step_noise) % _NOISE_STEPS
            pads = [(0, missing), *[(0, 0)] * (step_noise.ndim - 1)]
            step_noise = ops.convert_to_tensor(np.pad(step_noise, pads), "float32")
        reports = progress is not None
        flags = (guided, reports, spatial_only, preview is not None)
        tiny, shown = None, None
        if preview is not None:
            tiny, colours = preview.tiny, preview.colours
            if tiny is None:
                colours = ops.convert_to_tensor(colours, "float32")
            shown = (ops.convert_to_tensor(preview.every, "int32"), colours)
        key = (*flags, tiny and id(tiny), step_noise is not None)
        if key not in self._programs:
            self._programs[key] = self._compile(*flags, tiny)
        number = next(self._numbers) % _MOST_CALLS
        self._progress[number] = progress
        self._previews[number] = preview
        try:
            latents = self._programs[key](
                *arguments,
                step_noise,
                ops.convert_to_tensor(len(table.timesteps), "int32"),
                ops.convert_to_tensor(number, "int32"),
                shown,
            )
            wait_for_host_callbacks()
        finally:
            del self._progress[number], self._previews[number]
        return latents

    def lower(self, noise: Any, context: Any):
        """Lower the guided loop of a scheduler without noise to a `jax.stages.Lowered`.

        Latents `(B, F, H, W, C)` and text states `(B, L, D)` are shapes with shardings,
        as `jax.ShapeDtypeStruct`.
        """
        import jax

        def like(shape, sharding=None):
            return jax.ShapeDtypeStruct(shape, "float32", sharding=sharding)

        mask = like((*noise.shape[:-1], 1), noise.sharding)
        conditions = (context, context, like(()), mask, noise)
        table = like((_LEAST_ROWS, len(StepRow._fields)))
        program = self._compile(guided=True)
        number = jax.ShapeDtypeStruct((), "int32")
        return program.lower(noise, conditions, table, None, number, number, None)

    def _compile(
        self,
        guided: bool,
        reports: bool = False,
        spatial_only: bool = False,
        previews: bool = False,
        tiny: AutoencoderTiny | None = None,
    ):
        def program(sample, conditions, table, step_noise, num_steps, number, shown):
            conditions = Conditions(*conditions)
            predict = self._predictor(conditions, guided, spatial_only)
            predict = compile_part(predict)

            def body(i, state):
                sample, previous_denoised = state
                row = StepTable.row(table[i])
                noise = None if step_noise is None else step_noise[i]
                with weights_of_loop(self._unet, sample) as sample:
                    prediction = predict(sample * row.input_scale, row.timestep)
                state = step(row, sample, prediction, previous_denoised, noise)
                if reports:
                    place = ops.stack([number, ops.cast(i, "int32")])
                    state = host_callback(self._report, place, state)
                if shown is not None:
                    state = show(i, state, number, *shown)
                return state

            sample = shard_batch(sample)
            start = (sample, ops.zeros_like(sample))
            return ops.fori_loop(0, num_steps, body, start)[0]

        @compile_part
        def frames_of(denoised, colours):
            return preview_frames(denoised, tiny, colours)

        def show(i, state, number, every, colours):
            done = ops.cast(i, "int32") + 1

            def make():
                return number, done, frames_of(state[1], colours)

            return host_callback_when(done % every == 0, self._show, make, state)

        layers = [self._unet] if tiny is None else [self._unet, tiny]
        return compile_inference(program, layers, calls_host=reports or previews)

    def _predictor(self, conditions: Conditions, guided: bool, spatial_only: bool):
        """Function of (sample, timestep) that gives the guided prediction."""
        context = conditions.context
        if guided:
            context = ops.concatenate([conditions.negative_context, context], axis=0)
        # The text's keys and values are the same in every step: once, outside the loop.
        text = self._unet.project_context(context)
        takes_hint = self._unet.in_channels > self._unet.out_channels
        repeats = 2 if guided else 1

        def predict(sample, timestep):
            inputs = [sample]
            if takes_hint:
                inputs += [conditions.mask, conditions.hint]
            inputs = ops.concatenate(inputs, axis=-1)
            inputs = shard_batch(ops.concatenate([inputs] * repeats, axis=0))
            timesteps = ops.broadcast_to(timestep, (ops.shape(inputs)[0],))
            prediction = self._unet(
                {"sample": inputs, "timesteps": timesteps, "context": text},
                spatial_only=spatial_only,
            )
            prediction = shard_batch(ops.cast(prediction, "float32"))
            if not guided:
                return prediction
            negative, positive = ops.split(prediction, 2, axis=0)
            negative, positive = shard_batch(negative), shard_batch(positive)
            return negative + conditions.guidance_scale * (positive - negative)

        return predict

    def _report(self, place) -> None:
        number, step = (int(value) for value in place)
        self._progress[number](step + 1)

    def _show(self, number, done, frames) -> None:
        frames = ops.convert_to_numpy(frames)
        self._previews[int(number)].show(int(done), frames)


def _padded(table: StepTable) -> np.ndarray:
    """The table's rows at a fixed length, or at its own if it has more."""
    rows = table.as_array()
    padded = np.zeros((max(_LEAST_ROWS, len(rows)), rows.shape[1]), "float32")
    padded[: len(rows)] = rows
    return padded
