"""The denoising loop: noise, text and hint to latents, as one compiled program."""

import itertools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_makeavid import compilation
from keras_makeavid.devices import shard_batch
from keras_makeavid.models import AutoencoderTiny
from keras_makeavid.previews import Preview, preview_frames
from keras_makeavid.schedulers import SamplerState, StepTable, step, step_noise
from keras_makeavid.schedulers.step_table import StepRow
from keras_makeavid.windows import Windows

# Each call has an int32 number, by which the program finds its progress callback.
_MOST_CALLS = 2**31
# A table is padded to these rows, so that the number of steps compiles nothing anew.
_LEAST_ROWS = 1000
# Factors that change nothing.
NO_FREEU = (1.0, 1.0, 1.0, 1.0)


class Conditions(NamedTuple):
    """What a latent is denoised towards; tensors only."""

    context: Any  # Text states `(B, L, D)`; of K texts that change, `(B, K, L, D)`.
    negative_context: Any  # The same, to move away from.
    guidance_scale: Any  # A scalar.
    mask: Any  # `(B, F, H, W, 1)` or `(B, H, W, 1)`: 1 is to be filled, 0 is given.
    hint: Any  # Latents `(B, F, H, W, C)` or `(B, H, W, C)`.
    guidance_rescale: Any = 0.0  # A scalar, see `rescale_guided`.
    freeu: Any = NO_FREEU  # Scalars, see `UNet.call`.


class _Program(NamedTuple):
    """What needs a program of its own."""

    guided: bool = True
    rescaled: bool = False
    reports: bool = False
    spatial_only: bool = False
    low_memory: bool = False
    previews: bool = False
    tiny: AutoencoderTiny | None = None
    cached_but_layers: int = 0
    freeu: bool = False


class DenoisingLoop:
    """All sampling steps of a UNet as one compiled program.

    The number of steps, the scheduler's coefficients, text, hint, mask, noise and
    guidance are arguments of the program: none of them compiles it again. Guidance of
    1, with one UNet pass a step instead of a batch of two, is a program of its own; so
    are schedulers that add noise, which is drawn inside, and rescaled guidance. If the
    UNet takes only the latent's channels, mask and hint are left out.
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
        noise_keys: np.ndarray | None = None,
        progress: Callable[[int], None] | None = None,
        spatial_only: bool = False,
        low_memory: bool = False,
        guided_steps: range | None = None,
        preview: Preview | None = None,
        latents: np.ndarray | None = None,
        windows: Windows | None = None,
        text_shares: np.ndarray | None = None,
        given_shares: np.ndarray | None = None,
        cache_interval: int = 1,
        cache_layers: int = 2,
    ):
        """Denoise standard normal noise `(B, F, H, W, C)` or `(B, H, W, C)` in float32.

        A table that `needs_noise` takes `noise_keys`, int32 `(B, 2)`; one of a
        `strength`, clean `latents` to start from. With `low_memory` the two passes of
        guidance follow one another, in `guided_steps`, or all. `progress` is called
        with the number of steps done. `text_shares` `(B, F, K)` are how much of each of
        K texts of `conditions` a frame is told; a row adds up to one. `given_shares`
        are those of `keep_given`, if given frames are kept. The rest is as for
        `TextToVideo.generate`.
        """
        num_steps = len(table.timesteps)
        guided_steps = range(num_steps) if guided_steps is None else guided_steps
        if float(conditions.guidance_scale) == 1.0:
            guided_steps = range(0)
        rescaled = float(conditions.guidance_rescale) != 0.0
        start, *arguments = keras.tree.map_structure(
            _floats, (table.start(noise, latents), tuple(conditions), _padded(table))
        )
        starts, shares, _ = windows or (None, None, None)
        over_time = None
        if windows is not None or text_shares is not None:
            over_time = _integers(starts), _floats(shares), _floats(text_shares)
        shown = preview and (_integers(preview.every), _floats(preview.colours))
        state = tuple(SamplerState.start(start))
        number = next(self._numbers) % _MOST_CALLS
        self._progress[number] = progress
        self._previews[number] = preview
        try:
            for steps in _stretches(guided_steps, num_steps):
                guided = steps.start in guided_steps
                kind = _Program(
                    guided,
                    guided and rescaled,
                    progress is not None,
                    spatial_only,
                    guided and low_memory,
                    preview is not None,
                    preview.tiny if preview else None,
                    cache_layers if cache_interval > 1 else 0,
                    tuple(conditions.freeu) != NO_FREEU,
                )
                if kind not in self._programs:
                    self._programs[kind] = self._compile(kind)
                state = self._programs[kind](
                    state,
                    *arguments,
                    _integers(noise_keys),
                    *map(_integers, (steps.start, steps.stop, number)),
                    shown,
                    over_time,
                    _integers(cache_interval),
                    _floats(given_shares),
                )
            compilation.wait_for_host_callbacks()
        finally:
            del self._progress[number], self._previews[number]
        return state[0]

    def lower(self, noise: Any, context: Any) -> Any:
        """Lower the guided loop of a scheduler without noise to a `jax.stages.Lowered`.

        Latents and text states `(B, L, D)` are `jax.ShapeDtypeStruct`s with shardings.
        """
        import jax

        def like(shape, sharding=None):
            return jax.ShapeDtypeStruct(shape, "float32", sharding=sharding)

        mask = like((*noise.shape[:-1], 1), noise.sharding)
        conditions = (context, context, like(()), mask, noise, like(()))
        table = like((_LEAST_ROWS, len(StepRow._fields)))
        program = self._compile(_Program())
        state, number = SamplerState(*[noise] * 3), jax.ShapeDtypeStruct((), "int32")
        rest = conditions, table, None, number, number, number, *[None] * 4
        return program.lower(tuple(state), *rest)

    def _compile(self, kind: _Program):
        def program(
            state, conditions, table, noise_keys, first, stop, number, *options
        ):
            shown, over_time, interval, given_shares = options
            starts, shares, text_shares = over_time or (None, None, None)
            predict = self._predictor(Conditions(*conditions), kind, text_shares)
            if starts is not None:
                predict = _in_windows(predict, starts, shares)
            predict = compilation.compile_part(predict)
            reuse = compilation.compile_part(
                lambda *arguments: predict(*arguments[:2], deep=arguments[2])
            )

            def body(i, values):
                state, features = SamplerState(*values[:3]), values[3:]
                row = StepTable.row(table[i])
                noise = None
                if noise_keys is not None:
                    noise = shard_batch(step_noise(noise_keys, i, state.sample.shape))
                with compilation.weights_of_loop(self._unet, state.sample) as sample:
                    inputs = sample * row.input_scale, row.timestep
                    if features:
                        prediction, *features = ops.cond(
                            (i - first) % interval == 0,
                            lambda: predict(*inputs),
                            lambda: reuse(*inputs, *values[3:]),
                        )
                    else:
                        prediction = predict(*inputs)
                if given_shares is not None:
                    known = Conditions(*conditions)
                    prediction = keep_given(
                        row,
                        state.sample,
                        prediction,
                        known.mask,
                        known.hint,
                        given_shares,
                    )
                state = step(row, state, prediction, noise)
                if kind.reports:
                    state = report(i, tuple(state), number)
                if shown is not None:
                    state = show(i, tuple(state), number, *shown)
                return *state, *features

            start = (*map(shard_batch, state), *self._no_features(state[0], kind))
            return tuple(ops.fori_loop(first, stop, body, start)[:3])

        def report(i, state, number):
            def make():
                # With an element of the sample: JAX calls when that is computed.
                return number, ops.cast(i, "int32") + 1, ops.ravel(state[0])[0]

            return compilation.host_callback(self._report, make, state)

        @compilation.compile_part
        def frames_of(denoised, colours):
            return preview_frames(denoised, kind.tiny, colours)

        def show(i, state, number, every, colours):
            done = ops.cast(i, "int32") + 1
            denoised = SamplerState(*state).previous_denoised

            def make():
                return number, done, frames_of(denoised, colours)

            return compilation.host_callback(self._show, make, state, done % every == 0)

        layers = [self._unet] if kind.tiny is None else [self._unet, kind.tiny]
        calls_host = kind.reports or kind.previews
        return compilation.compile_inference(program, layers, calls_host=calls_host)

    def _no_features(self, sample, kind: _Program):
        """What stands for the features of a step before the first, if there are any."""
        if not kind.cached_but_layers:
            return []
        unet, (batch, *sides, _) = self._unet, sample.shape
        # The last block takes what the one before it makes.
        is_whole = kind.cached_but_layers > unet.layers_per_block
        channels = unet.block_channels[int(is_whole and len(unet.block_channels) > 1)]
        rows = [batch * (1 + kind.guided), *sides]
        if len(sides) == 3 and (kind.spatial_only or not unet.network.is_video):
            rows[:2] = [rows[0] * rows[1]]
        return [ops.zeros((*rows, channels), unet.compute_dtype)]

    def _predictor(self, conditions: Conditions, kind: _Program, text_shares):
        """Function of (sample, timestep) that gives the guided prediction.

        `frames` are the first frame of a window and their number; `deep` are features
        of an earlier step, as `UNet.call` takes them.
        """
        context = conditions.context
        if kind.guided:
            context = ops.concatenate([conditions.negative_context, context], axis=0)
        # The text's keys and values are the same in every step: once, outside the loop.
        projected = self._unet.project_context(context)
        if text_shares is not None and kind.guided:
            text_shares = ops.concatenate([text_shares, text_shares], axis=0)
        takes_hint = self._unet.in_channels > self._unet.out_channels

        def run(inputs, timestep, text, deep):
            timesteps = ops.broadcast_to(timestep, (ops.shape(inputs)[0],))
            prediction = self._unet(
                {"sample": inputs, "timesteps": timesteps, "context": text},
                spatial_only=kind.spatial_only,
                layers=kind.cached_but_layers,
                deep=deep,
                freeu=conditions.freeu if kind.freeu else None,
            )
            if kind.cached_but_layers:
                prediction, deep = prediction
            return shard_batch(ops.cast(prediction, "float32")), deep

        def text_of(frames):
            if text_shares is None:
                return projected
            shares = _frames_of(text_shares, frames)
            # Keys and values are linear in the text: those between two are as well.
            return keras.tree.map_structure(
                lambda x: ops.einsum("bfk,bk...->bf...", ops.cast(shares, x.dtype), x),
                projected,
            )

        def run_both(inputs, timestep, text, deep):
            if not kind.low_memory:
                inputs = shard_batch(ops.concatenate([inputs, inputs], axis=0))
                both, deep = run(inputs, timestep, text, deep)
                return *map(shard_batch, ops.split(both, 2, axis=0)), deep
            halves = {"text": text} if deep is None else {"text": text, "deep": deep}
            halves = keras.tree.map_structure(
                lambda x: ops.reshape(x, (2, x.shape[0] // 2, *x.shape[1:])), halves
            )

            def run_half(half):
                made, deep = run(inputs, timestep, half["text"], half.get("deep"))
                return made if deep is None else (made, deep)

            both = ops.map(run_half, halves)
            if not kind.cached_but_layers:
                return both[0], both[1], None
            both, deep = both
            return both[0], both[1], ops.reshape(deep, (-1, *deep.shape[2:]))

        def predict(sample, timestep, frames=None, deep=None):
            inputs, text = [sample], text_of(frames)
            if takes_hint:
                given = (conditions.mask, conditions.hint)
                inputs += [_frames_of(x, frames) for x in given]
            inputs = ops.concatenate(inputs, axis=-1)
            if not kind.guided:
                result, deep = run(shard_batch(inputs), timestep, text, deep)
            else:
                negative, positive, deep = run_both(inputs, timestep, text, deep)
                result = negative + conditions.guidance_scale * (positive - negative)
            if kind.rescaled:
                result = rescale_guided(result, positive, conditions.guidance_rescale)
            return (result, deep) if kind.cached_but_layers else result

        return predict

    def _report(self, number, done, _) -> None:
        self._progress[int(number)](int(done))

    def _show(self, number, done, frames) -> None:
        frames = ops.convert_to_numpy(frames)
        self._previews[int(number)].show(int(done), frames)


def _floats(values):
    return None if values is None else ops.convert_to_tensor(values, "float32")


def _integers(values):
    return None if values is None else ops.convert_to_tensor(values, "int32")


def nearest_frames(given: Collection[int], num_frames: int) -> np.ndarray:
    """The given frame that is nearest to each frame; of two as near, the earlier."""
    frames = np.array(sorted(given))
    return frames[np.abs(np.arange(num_frames)[:, None] - frames).argmin(axis=1)]


def given_shares(given: Collection[int], num_frames: int) -> np.ndarray:
    """How much of a given frame's error each frame has, `(F, F)`, for `keep_given`.

    It is that of the nearest one, divided by the distance: what lies where changes.
    """
    nearest, frames = nearest_frames(given, num_frames), np.arange(num_frames)
    shares = np.zeros((num_frames, num_frames), "float32")
    shares[frames, nearest] = 1.0 / np.maximum(np.abs(frames - nearest), 1)
    return shares


def keep_given(
    row: StepRow, sample: Any, prediction: Any, mask: Any, hint: Any, shares: Any
) -> Any:
    """Let given frames become what is known, and take their errors off the others.

    Without this a model redraws frames that it is given, all of them a little wrong in
    the same way, and the new ones differ from the known ones (`docs/control.md`).

    Args:
        row: The step's coefficients.
        sample: Latents `(B, F, H, W, C)`, and of the same shape the
        prediction: of the model, after guidance; the result is one.
        mask: `(B, F, H, W, 1)`: 0 is given.
        hint: `(B, F, H, W, C)`, what is given.
        shares: `(F, F)`, how much of each frame's error a frame is rid of. As much as
            a row lacks of one it is rid of the mean error of all that is given.
    """
    given = ops.cast(ops.equal(mask, 0.0), "float32")
    denoised = (
        sample * row.denoised_from_sample + prediction * row.denoised_from_prediction
    )
    error = (hint - denoised) * given
    axes = (1, 2, 3)
    count = ops.maximum(ops.sum(given, axes, keepdims=True), 1.0)
    mean = ops.sum(error, axes, keepdims=True) / count
    rest = ops.reshape(1.0 - ops.sum(shares, axis=1), (1, -1, 1, 1, 1))
    error = ops.einsum("fg,bghwc->bfhwc", shares, error) + rest * mean
    return prediction + error / row.denoised_from_prediction


def rescale_guided(guided: Any, positive: Any, share: Any) -> Any:
    """Bring the contrast of a guided prediction `(B, ...)` back to the prompt's own.

    Lin et al., arXiv 2305.08891, equations 15 and 16; the deviation is that of a whole
    sample. A share of 0 changes nothing, theirs is 0.7.
    """
    axes = tuple(range(1, len(guided.shape)))
    own, blown = (ops.std(x, axis=axes, keepdims=True) for x in (positive, guided))
    return guided * (share * (own / blown) + (1.0 - share))


def _in_windows(predict, starts, shares):
    """Predictions of windows of frames, one after the other, blended by shares."""
    count, window = shares.shape

    def predict_all(sample, timestep):
        def add(i, total):
            start = starts[i]
            frames = start, window
            part = predict(_frames_of(sample, frames), timestep, frames)
            part = part * ops.reshape(shares[i], (1, -1, 1, 1, 1))
            part = part + _frames_of(total, frames)
            return ops.slice_update(total, (0, start, 0, 0, 0), part)

        return ops.fori_loop(0, count, add, ops.zeros_like(sample))

    return predict_all


def _frames_of(x, frames):
    """Some frames of `(B, F, ...)`, by the first and their number; `None` is all."""
    if frames is None:
        return x
    start, count = frames
    rest = len(x.shape) - 2
    return ops.slice(x, (0, start, *[0] * rest), (x.shape[0], count, *x.shape[2:]))


def _stretches(guided: range, num_steps: int) -> list[range]:
    """The steps before, in and after the guided ones, without empty stretches."""
    first, last = (guided.start, guided.stop) if guided else (0, 0)
    ends = sorted({0, first, last, num_steps})
    return [range(*pair) for pair in itertools.pairwise(ends)]


def _padded(table: StepTable) -> np.ndarray:
    """The table's rows at a fixed length, or at its own if it has more."""
    rows = table.as_array()
    padded = np.zeros((max(_LEAST_ROWS, len(rows)), rows.shape[1]), "float32")
    padded[: len(rows)] = rows
    return padded
