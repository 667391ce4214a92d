"""Text to video: tokenizer, text encoder, UNet, scheduler and VAE as one task."""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.devices import made_on_host, on_device
from keras_makeavid.dtype_policies import policy_of, without_overflow
from keras_makeavid.files import StrPath, existing_file, folder_written_aside
from keras_makeavid.freeinit import mixed_noise
from keras_makeavid.given_frames import REPEATED, GivenFrames
from keras_makeavid.models import AutoencoderKL, AutoencoderTiny, UNetPseudo3D, loading
from keras_makeavid.models.parts import (
    FEW_STEPS,
    SIZE_STEP,
    TASK_DEFAULTS,
    check_parts,
)
from keras_makeavid.presets import (
    FEW_STEPS_FILE,
    HUB_PREFIX,
    preset_folder,
    repository_of,
)
from keras_makeavid.previews import Preview, fit_colours
from keras_makeavid.progress import step_progress
from keras_makeavid.sampling import (
    Conditions,
    DenoisingLoop,
    given_shares,
    nearest_frames,
)
from keras_makeavid.schedulers import NoiseSchedule, Scheduler, get_scheduler
from keras_makeavid.schedulers.registry import SCHEDULERS
from keras_makeavid.tasks import inputs
from keras_makeavid.tasks.adapters import AdaptableTask
from keras_makeavid.tasks.preset_source import as_preset
from keras_makeavid.tensor import Tensor
from keras_makeavid.text import TextToVideoPreprocessor
from keras_makeavid.text.weighting import weigh
from keras_makeavid.validation import check_choice, refusal
from keras_makeavid.windows import share_noise
from weights_tools import load_model


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TextToVideo(loading.FromPreset, AdaptableTask):
    """Generates videos from prompts, and from a hint image if its UNet takes one.

    `compile` and `fit` train its UNet on latent videos. Weights of the UNet are the
    preset's backbone weights; those of the other parts are its task weights.

    Args:
        backbone: The `UNetPseudo3D`. One that takes latents alone takes no hint image.
        preprocessor: Turns prompts into token ids.
        text_encoder: Takes `{"token_ids"}`, returns text states `(B, L, D)`.
        vae: The `AutoencoderKL`.
        image_backbone: A UNet for first frames, inpainting or not; `None` uses
            `backbone` without its temporal parts, or with them, if `given_frames` says
            that it learnt to make all frames (`"none"`).
        schedule: The `NoiseSchedule` that the UNet was trained with, or its config.
        height: Default height of a video in pixels.
        width: Default width of a video in pixels.
        num_frames: Default number of frames.
        guidance_scale: Default weight of the prompt.
        fps: Frames a second that its videos are meant for.
        given_frames: Which frames the UNet was trained to fill videos in from: the
            shares of a `GivenFrames`, or that itself. `None` is the published form.
        num_steps: Default number of sampling steps.
        scheduler: Name of the default scheduler, as `get_scheduler` knows it.
        origin: Of what its weights were made, as far as known: the `"base_model"`, a
            repository of the hub, and the `"license"`, as the hub names it.

    Raises:
        ValueError: If the models do not go together, or the scheduler is not known.

    Attributes:
        low_memory: Whether `generate` takes less memory, and longer: the two passes of
            guidance follow one another, and each part is on the accelerator only while
            it works. Videos are the same but for rounding. Not saved.
        few_steps_file: The adapter for few steps of the preset that the task is of, a
            path, if that has one. Not saved.

    Example:
    ```python
    task = keras_makeavid.TextToVideo.from_preset("path/to/preset")
    videos = task.generate("dancing in the rain", num_frames=24, seed=0)
    keras_makeavid.video.write_video("rain.mp4", videos[0], fps=task.fps)
    ```
    """

    backbone_cls = UNetPseudo3D
    preprocessor_cls = TextToVideoPreprocessor

    def __init__(
        self,
        backbone: UNetPseudo3D,
        preprocessor: TextToVideoPreprocessor,
        text_encoder: keras.Model,
        vae: AutoencoderKL,
        image_backbone: UNetPseudo3D | None = None,
        schedule: NoiseSchedule | dict | None = None,
        height: int = 512,
        width: int = 512,
        num_frames: int = 24,
        guidance_scale: float = 15.0,
        fps: float = 8.0,
        given_frames: GivenFrames | Mapping[str, float] | None = None,
        num_steps: int = 20,
        scheduler: str = "dpm++2m",
        origin: Mapping[str, str] | None = None,
        **kwargs,
    ):
        taken = backbone.input
        super().__init__(inputs=taken, outputs=backbone(taken), compile=False, **kwargs)
        if isinstance(schedule, dict):
            schedule = NoiseSchedule.from_config(schedule)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.text_encoder = text_encoder
        self.vae = vae
        self.image_backbone = image_backbone
        self.schedule = schedule or NoiseSchedule()
        # Batches to train on reach `call` as they are, besides the UNet's inputs.
        self.input_spec = None
        self.autocast = False
        self.low_memory = False
        self.few_steps_file: Path | None = None
        # What decodes fast, if it is loaded. Keras does not look for layers in here.
        self._fast = types.SimpleNamespace(model=None)
        self.height = height
        self.width = width
        self.num_frames = num_frames
        self.guidance_scale = guidance_scale
        self.fps = fps
        self.num_steps = num_steps
        self.scheduler = scheduler
        self.origin = dict(origin or {})
        if not isinstance(given_frames, GivenFrames):
            given_frames = GivenFrames(given_frames or REPEATED)
        self._given_frames = given_frames
        check_parts(backbone, text_encoder, vae, image_backbone)
        check_choice("scheduler", scheduler, tuple(SCHEDULERS))

        self._make_text_program()
        self._make_denoising_loops()

    @classmethod
    def from_preset(
        cls,
        preset: StrPath,
        load_weights: bool = True,
        *,
        motion: StrPath | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        low_memory: bool = False,
        few_steps: bool | None = False,
        **kwargs: Any,
    ) -> TextToVideo:
        """Make the task of a preset, or of a checkpoint of Stable Diffusion 1.x.

        A checkpoint is converted and inflated as by `makeavid weights inflate`. The
        result is kept in `KERAS_HOME`, or else in `~/.cache/keras_makeavid`.

        Args:
            preset: Name of a preset of the package, a folder, `hf://owner/name`, with
                `@revision` if need be, or as KerasHub; or a checkpoint: a folder in
                diffusers' layout, a repository of one, a `.safetensors` or `.ckpt`.
            load_weights: Whether to load its weights; `False` draws new ones.
            motion: AnimateDiff's motion modules, which an image model gets in place of
                pseudo-3D parts: a file, folder or repository of them, or `"v1"`, `"v2"`
                or `"v3"` for new ones of that form.
            dtype: Dtype policy of all parts, or its name: of Keras, or
                `"stored_bfloat16"` and `"stored_float16"` (see `StoredPolicy`). `None`
                is half precision on an accelerator, bfloat16 where it has that, and
                float32 on a CPU; a policy set by `keras.config.set_dtype_policy` goes
                first, and int8 that the preset was saved in. To train, ask for
                `"float32"` or `"mixed_bfloat16"`. Where the UNet calculates in float16,
                VAE and text encoder do in float32.
            low_memory: The task's `low_memory`.
            few_steps: Whether to load the adapter `few_steps.safetensors` of the
                preset, by which it makes videos in few steps without guidance; `None`
                is where it has one, and weights are not in int8. `num_steps`,
                `scheduler` and `guidance_scale` are then what such adapters want.
            **kwargs: As those of KerasHub's method.

        Raises:
            ValueError: If there is no such preset or dtype, or the checkpoint is
                damaged or of another family, or has no adapter for `few_steps`.

        Example:
        ```python
        task = TextToVideo.from_preset("makeavid_motions_small")
        ```
        """
        folder = as_preset(preset, motion)
        adapter = Path(preset_folder(folder), FEW_STEPS_FILE)
        if few_steps and not adapter.is_file():
            expected = f"few_steps needs a preset with an adapter, {FEW_STEPS_FILE}"
            raise ValueError(f"{expected}. Received: {preset}")
        if load_weights and Path(folder, "task.json").is_file():
            # KerasHub would leave the parts that it lacks as they were drawn.
            existing_file(Path(folder, "task.weights.h5"))
        if dtype is not None or loading.int8_policy_of(folder) is None:
            kwargs["dtype"] = policy_of(dtype)
        with made_on_host(low_memory):
            task = super().from_preset(folder, load_weights, **kwargs)
        if str(preset).startswith(HUB_PREFIX):
            task.origin["base_model"], _ = repository_of(str(preset))
        task.low_memory = low_memory
        task.few_steps_file = adapter if adapter.is_file() else None
        if few_steps is None:
            # Adapters are merged into kernels that are not rounded.
            is_int8 = any(v.dtype == "int8" for v in task.backbone.weights)
            few_steps = task.few_steps_file is not None and not is_int8
        if few_steps:
            task.load_lora(task.few_steps_file)
            for name, value in FEW_STEPS.items():
                setattr(task, name, value)
        return task

    @property
    def given_frames(self) -> dict[str, float]:
        """The patterns of `GivenFrames` that the UNet was trained with, and shares."""
        return dict(self._given_frames.shares)

    def load_task_weights(self, filepath: str) -> None:
        """Load the weights of all parts but the backbone, from a file of a preset."""
        loading.check_weights_file(filepath)
        super().load_task_weights(filepath)

    def quantize(self, mode: str = "int8", config: Any = None, **kwargs: Any) -> None:
        """Round the weights of UNet, image model and VAE to int8.

        See `UNetPseudo3D.quantize`. The text encoder stays as it is. With
        `dtype="int8_from_float32"`, `from_preset` makes the same task without the full
        weights in memory. Modes but `"int8"`, and other options, are a `ValueError`.

        Example:
        ```python
        task.quantize("int8")
        task.save_to_preset("makeavid_int8")
        ```
        """
        for part in (self.backbone, self.image_backbone, self.vae):
            if part is not None:
                part.quantize(mode, config=config, **kwargs)
        # Compiled programs hold the weights that there were.
        self._make_denoising_loops()

    def load_fast_decoder(self, source: StrPath | AutoencoderTiny) -> None:
        """Load what decodes fast: for `generate(fast_decode=True)` and its previews.

        It is no part of the task, and presets do not hold it.

        Args:
            source: An `AutoencoderTiny`; or a preset of one, a folder of diffusers'
                class or its weights alone, a repository, as `"hf://madebyollin/taesd"`.

        Raises:
            FileNotFoundError: If there is nothing.
            ValueError: If it is damaged, or of other latents than the VAE's.

        Example:
        ```python
        task.load_fast_decoder("hf://madebyollin/taesd")
        ```
        """
        tiny = source
        if not isinstance(tiny, AutoencoderTiny):
            tiny = load_model(tiny, "tiny_vae", dtype=self.vae.compute_dtype)
        for name in ("in_channels", "latent_channels", "downsampling_factor"):
            received, expected = getattr(tiny, name), getattr(self.vae, name)
            if received != expected:
                wanted = f"The fast decoder's {name} must be {expected}, as the VAE's"
                raise ValueError(f"{wanted}. Received: {received}")
        self._fast.model = tiny

    def _make_text_program(self):
        text_encoder = self.text_encoder
        self._encode_text = compile_inference(
            lambda token_ids: text_encoder({"token_ids": token_ids}), [text_encoder]
        )

    def _make_denoising_loops(self):
        self._video_loop = self._image_loop = DenoisingLoop(self.backbone)
        if self.image_backbone:
            self._image_loop = DenoisingLoop(self.image_backbone)

    def generate(
        self,
        prompts: str | Mapping[int, str] | Sequence[str | Mapping[int, str]],
        *,
        negative_prompts: str | Sequence[str] | None = None,
        hint_image: np.ndarray | Sequence[Any] | None = None,
        mask_image: np.ndarray | None = None,
        keyframes: Mapping[int, Any] | None = None,
        video: np.ndarray | None = None,
        strength: float = 0.6,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        window: int | None = None,
        overlap: int | None = None,
        blend: str = "pyramid",
        shared_noise: bool = False,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        cache_interval: int = 1,
        cache_layers: int = 2,
        freeu: Sequence[float] | None = None,
        free_init: int = 1,
        scheduler: str | Scheduler | None = None,
        spatial_only: bool = False,
        seed: int | Sequence[int] | None = None,
        progress: bool | Callable[[int, int], None] = False,
        tile_size: int | None = None,
        prompt_weighting: bool = False,
        long_prompts: bool = False,
        fast_decode: bool = False,
        preview: Callable[[int, int, np.ndarray], None] | None = None,
        preview_every: int = 5,
        output: str = "video",
    ) -> np.ndarray:
        """Generate a video for each prompt.

        A sample depends on its own seed only, not on the batch it is in: the noise to
        start from, and the noise that some schedulers add in each step. An argument
        that does not fit is a `ValueError`, before anything is computed.

        Args:
            prompts: One prompt or a list of them. A prompt that changes is a dict by
                frame; frames between two are told of both, each as much as it is near.
            negative_prompts: What to avoid: one for all, one for each, or `None`.
            hint_image: The picture to set in motion: uint8 `(H, W, 3)` for all, or `(B,
                H, W, 3)`. With none, a first frame is made by the image model. A UNet
                that takes latents alone takes no picture, and makes no such frame.
            mask_image: `(H, W)` or `(B, H, W)`, bool, uint8 or float in `[0, 1]`: 1 is
                to be filled, 0 is given by `hint_image`. `None` is 0 everywhere.
            keyframes: Pictures by frame, from 0, or from -1 for the last one, each as
                `hint_image`, or latents `(B, h, w, C)` of an earlier result. They come
                back as they are, but for what the VAE loses.
            video: A video to change, uint8 `(F, H, W, 3)` for all prompts, or `(B, F,
                H, W, 3)`: sampling starts from it, with noise added. Without hint or
                keyframes, the image model changes its first frame likewise.
            strength: How much of a `video` may change: the share of the steps taken.
            num_frames: Number of frames F; `None` is the task's own, or the video's.
            height: In pixels, a multiple of 32 (less for models of fewer levels);
                `None` is the task's own.
            width: In pixels, likewise.
            window: Frames that the model makes at once: longer videos are made in
                windows, whose predictions are blended in each step, in the memory of
                one. `None` makes all frames at once.
            overlap: Frames shared with the window before; `None` is a quarter.
            blend: How much a window counts in its frames: more towards its middle,
                `"pyramid"`, or all alike, `"uniform"`.
            shared_noise: Whether all windows start from the noise of the first, in
                other orders, which makes them more alike (FreeNoise, arXiv 2310.15169).
            num_steps: Number of sampling steps; `None` is the task's own.
            guidance_scale: Weight of the prompt against the negative prompt; `None` is
                the task's own. 1 is without guidance and costs half.
            image_guidance_scale: That for the first frame; `None` is `guidance_scale`.
            guidance_rescale: From 0 to 1, how far the contrast of guided predictions
                goes back to that of the prompt's own (arXiv 2305.08891).
            guidance_interval: Noise levels `(low, high)` with guidance; a step at
                others makes one pass of the UNet, not two (arXiv 2404.07724). They are
                shares of noise in `[0, 1]`, see `NoiseSchedule.noise_scale`.
            cache_interval: Of so many steps, one passes the whole UNet. The others take
                its deep features and pass the last layers alone: faster, and a little
                less true (DeepCache, arXiv 2312.00858).
            cache_layers: How many layers that is.
            freeu: Factors `(b1, b2, s1, s2)` for the two coarsest levels of the up
                path: b for what comes from below, s for the low frequencies of what
                comes from beside (arXiv 2309.11497). `None` changes nothing.
            free_init: How often a video is made, each time from noise that has the low
                frequencies of the one before (arXiv 2312.07537), for less flicker.
            scheduler: A name that `get_scheduler` knows, such as `"dpm++2m"`, `"lcm"`
                or `"euler-ancestral"`, or a `Scheduler`; `None` is the task's own.
            spatial_only: Leave out the temporal parts: each frame is its own image.
            seed: A number (sample `i` takes `seed + i`), a list, or `None`.
            progress: `True` shows a bar; a function gets `(step, num_steps)` at each.
            tile_size: Side in pixels of the overlapping tiles in which the VAE codes
                larger frames, for less memory; `None` codes whole frames.
            prompt_weighting: Whether `(word)`, `(word:1.3)` and `[word]` weigh words,
                also of `negative_prompts` (see `text.parse_weights`).
            long_prompts: Whether a prompt of more tokens than the text encoder takes is
                read in windows, 75 tokens each, and not cut. All prompts of a call then
                have as many windows as the longest.
            fast_decode: Whether the decoder of `load_fast_decoder` decodes the video.
            preview: Called as `preview(step, num_steps, frames)` every `preview_every`
                steps of the video, numbered as for `progress`. `frames` are uint8 `(B,
                F, h, w, 3)`, what the video is expected to become: of full size from
                the decoder of `load_fast_decoder`, else small, by a linear map.
            preview_every: Number of steps.
            output: `"video"`, or `"latents"` to have what is not decoded.

        Returns:
            uint8 `(B, F, H, W, 3)`; or latents, float32 `(B, F, h, w, C)`.

        Example:
        ```python
        task.generate(["a cat", "a dog"], negative_prompts="blurry", seed=1)
        ```
        """
        changing, negatives = inputs.as_prompts(prompts, negative_prompts)
        batch = len(changing)
        seeds = inputs.as_seeds(seed, batch)
        height = self._checked_size("height", height)
        width = self._checked_size("width", width)
        if video is not None:
            video = inputs.as_videos(video, batch, num_frames, height, width)
            num_frames = video.shape[1]
        num_frames = inputs.as_count("num_frames", num_frames, self.num_frames)
        inputs.check_videos(batch, num_frames, height, width)
        windows = inputs.as_windows(window, overlap, blend, num_frames)
        at_once = num_frames if windows is None else windows.shares.shape[1]
        self.backbone.check_frames(at_once)
        texts, text_shares = inputs.over_time(changing, num_frames)
        num_steps = inputs.as_count("num_steps", num_steps, self.num_steps)
        guidance_scale = inputs.as_scale(
            "guidance_scale", guidance_scale, self.guidance_scale
        )
        image_guidance_scale = inputs.as_scale(
            "image_guidance_scale", image_guidance_scale, guidance_scale
        )
        guidance_rescale = inputs.as_scale("guidance_rescale", guidance_rescale)
        if not 0 <= guidance_rescale <= 1:
            raise refusal("guidance_rescale must be from 0 to 1", guidance_rescale)
        how: dict[str, Any] = {
            "low_memory": self.low_memory,
            "cache_interval": inputs.as_count("cache_interval", cache_interval),
            "cache_layers": inputs.as_count("cache_layers", cache_layers),
        }
        unets = [u for u in (self.backbone, self.image_backbone) if u is not None]
        most = min(unet.layers_per_block for unet in unets) + 1
        if cache_interval > 1 and (windows is not None or cache_layers > most):
            raise ValueError(
                "Features are cached of videos made at once, with at most "
                f"cache_layers={most}. Received: cache_interval={cache_interval}, "
                f"cache_layers={cache_layers}, window={window}"
            )
        factors = inputs.as_factors("freeu", freeu)
        free_init = inputs.as_count("free_init", free_init)
        if free_init > 1 and video is not None:
            raise ValueError(
                "free_init starts from noise alone, a video to change does not. "
                f"Received: free_init={free_init} and a video"
            )
        low, high = inputs.as_interval("guidance_interval", guidance_interval)
        flags = {
            "shared_noise": shared_noise,
            "spatial_only": spatial_only,
            "prompt_weighting": prompt_weighting,
            "long_prompts": long_prompts,
            "fast_decode": fast_decode,
        }
        for name, flag in flags.items():
            inputs.check_flag(name, flag)
        if not callable(progress):
            inputs.check_flag("progress", progress, ", or a function of (step, total)")
        if tile_size is not None:
            tile_size = inputs.as_count("tile_size", tile_size)
        if fast_decode and self._fast.model is None:
            raise ValueError(
                "fast_decode needs a decoder, as of "
                'load_fast_decoder("hf://madebyollin/taesd"). '
                "Received: fast_decode=True, and none is loaded"
            )
        if preview is not None and not callable(preview):
            expected = "preview must be a function of (step, num_steps, frames) or None"
            raise refusal(expected, preview)
        preview_every = inputs.as_count("preview_every", preview_every)
        check_choice("output", output, ("video", "latents"))
        strength = 1.0 if video is None else inputs.as_scale("strength", strength)
        scheduler = self.scheduler if scheduler is None else scheduler
        table = get_scheduler(scheduler, self.schedule).table(num_steps, strength)
        levels = self.schedule.noise_scale(table.timesteps)
        guided = np.flatnonzero((low <= levels) & (levels <= high))
        how["guided_steps"] = (
            range(guided[0], guided[-1] + 1) if guided.size else range(0)
        )
        shape = (num_frames, *self._latent_shape(height, width))
        pictures = inputs.as_keyframes(
            hint_image, mask_image, keyframes, num_frames, (batch, height, width), shape
        )
        if pictures and not self._takes_hint():
            raise ValueError(
                "The UNet takes latents alone, and no mask and hint: give no "
                "hint_image, or make the task of an inpainting model. "
                f"Received: hint_image for in_channels={self.backbone.in_channels}"
            )
        self.vae.check_tile_size(tile_size)

        # Together, as both must have as many windows.
        every = [text for row in texts for text in row] + negatives
        context = self.encode_prompts(every, prompt_weighting, long_prompts)
        text = _context(context, len(texts[0]))
        text |= {"guidance_rescale": guidance_rescale, "freeu": factors}
        clip = None if video is None else self._encode_frames(video, tile_size)
        makes_frame = not pictures and self._makes_first_frame()
        steps = len(table.timesteps)
        total = steps * (free_init + makes_frame)
        with step_progress(progress, total) as report:
            done = 0
            if makes_frame:
                given = self._first_frame(
                    text,
                    image_guidance_scale,
                    table,
                    seeds,
                    (height, width),
                    tile_size,
                    progress=report,
                    latents=None if clip is None else clip[:, 0],
                    **how,
                )
                done = steps
            else:
                encode = self._encode_hint
                given = {frame: encode(*p, tile_size) for frame, p in pictures.items()}
            masked = self._given_frames.masked or keyframes is not None
            hint, mask = _hint_and_mask(given, (batch, *shape), masked)
            kept = given_shares(given, num_frames) if masked and given else None
            # What colours look like: a frame, or noise for want of one.
            colours = hint[:, 0]
            if not given:
                colours = (
                    _noise(seeds, "colours", shape[1:]) if clip is None else clip[:, 0]
                )
            # `done` is what it is when they are called.
            reported = report and (lambda step: report(done + step))
            previewed = preview and self._preview(
                lambda step, frames: preview(done + step, total, frames),
                preview_every,
                colours,
                (height, width),
            )
            first = noise = _noise(seeds, "video", shape)
            if windows is not None and shared_noise:
                for each, own in zip(noise, seeds, strict=True):
                    rng = _random(own, "windows")
                    each[:] = share_noise(each, at_once, windows.stride, rng)
            latents: Any = None
            for again in range(free_init):
                purpose = f"video {again}" if again else "video"
                if again:
                    last = np.full(batch, self.schedule.num_train_steps - 1)
                    noised = self.schedule.add_noise(latents, first, last)
                    noised = keras.ops.convert_to_numpy(noised)
                    noise = mixed_noise(noised, _noise(seeds, purpose, shape))
                with self._at_work(self.backbone):
                    latents = self._video_loop(
                        noise,
                        Conditions(
                            **text, guidance_scale=guidance_scale, mask=mask, hint=hint
                        ),
                        table,
                        _noise_keys(seeds, purpose, table),
                        progress=reported,
                        spatial_only=spatial_only,
                        preview=previewed,
                        latents=clip,
                        windows=windows,
                        text_shares=text_shares,
                        given_shares=kept,
                        **how,
                    )
                done += steps
        latents = np.array(keras.ops.convert_to_numpy(latents))
        if masked:
            # What is given is known: it comes back as it was.
            for frame, (known, mask) in given.items():
                if not mask.any():
                    latents[:, frame] = known
        if output == "latents":
            return latents
        return self._decode(latents, (height, width), tile_size, fast_decode)

    def _decode(self, latents, size, tile_size=None, fast_decode=False) -> np.ndarray:
        if fast_decode and self._fast.model:
            frames = self._fast.model.decode_video(latents, tile_size=tile_size)
        else:
            with self._at_work(self.vae):
                frames = self.vae.decode_video(latents, tile_size=tile_size)
        return _crop(frames, *size)

    def interpolate(
        self,
        video: np.ndarray,
        factor: int = 4,
        prompts: str | Mapping[int, str] | Sequence[str | Mapping[int, str]] = "",
        **arguments: Any,
    ) -> np.ndarray:
        """Make frames between those of a video.

        Args:
            video: uint8 `(F, H, W, 3)`, or `(B, F, H, W, 3)` with one for each prompt.
            factor: How many times closer the frames are then.
            prompts: As for `generate`. With no prompt the default guidance is 1.
            **arguments: As for `generate`. A video of more frames than the task's own
                is made in windows of so many, unless `window` says otherwise.

        Returns:
            uint8 `(B, (F - 1) * factor + 1, height, width, 3)`.

        Raises:
            ValueError: If an argument does not fit, as for `generate`.

        Example:
        ```python
        smooth = task.interpolate(read_video("clip.mp4", fps=8), factor=4)
        ```
        """
        video, prompts = self._with_clip(video, prompts, arguments)
        factor = inputs.as_count("factor", factor)
        num_frames = (video.shape[1] - 1) * factor + 1
        if num_frames > self.num_frames:
            arguments.setdefault("window", self.num_frames)
            if factor >= self.num_frames:
                raise ValueError(
                    "factor must leave two frames of the video to a window of "
                    f"{self.num_frames}. Received: {factor}"
                )
        keyframes = {i * factor: video[:, i] for i in range(video.shape[1])}
        return self.generate(
            prompts, keyframes=keyframes, num_frames=num_frames, **arguments
        )

    def extend(
        self,
        video: np.ndarray,
        num_frames: int,
        prompts: str | Sequence[str] = "",
        *,
        context_frames: int = 4,
        seed: int | Sequence[int] | None = None,
        **arguments: Any,
    ) -> np.ndarray:
        """Continue a video: its last frames are given, the model makes more, and so on.

        Args:
            video: uint8 `(F, H, W, 3)`, or `(B, F, H, W, 3)` with one for each prompt.
            num_frames: Frames of the result, those of the video too: more than it has.
            prompts: As for `generate`, unchanging. With none the guidance is 1.
            context_frames: How many frames are given each time.
            seed: As for `generate`.
            **arguments: As for `generate`.

        Returns:
            uint8 `(B, num_frames, height, width, 3)`; those of the video stay. What the
            VAE loses of their last one is added to those that follow, less and less.

        Raises:
            ValueError: If an argument does not fit, or is one that `extend` sets.

        Example:
        ```python
        longer = task.extend(read_video("clip.mp4", fps=task.fps), num_frames=64)
        ```
        """
        video, prompts = self._with_clip(video, prompts, arguments)
        batch, have = video.shape[:2]
        num_frames = inputs.as_count("num_frames", num_frames)
        context_frames = inputs.as_count("context_frames", context_frames)
        most = min(have, self.num_frames - 1)
        if num_frames <= have or context_frames > most:
            raise ValueError(
                f"A video of {have} frames must be extended to more, from at most "
                f"{most} of them. Received: num_frames={num_frames}, "
                f"context_frames={context_frames}"
            )
        for name in ("output", "video", "window", "keyframes", "hint_image"):
            if name in arguments:
                raise ValueError(f"extend has no {name}. Received: {name}")
        if any(isinstance(prompt, Mapping) for prompt in prompts):
            expected = "extend has no prompts that change: extend once for each of them"
            raise refusal(expected, prompts)
        seeds = inputs.as_seeds(seed, batch)
        given = [video[:, i] for i in range(have - context_frames, have)]
        parts: list[np.ndarray] = []
        count = have
        while count < num_frames:
            latents = self.generate(
                prompts,
                keyframes=dict(enumerate(given)),
                num_frames=self.num_frames,
                # A part has a noise of its own.
                seed=[(s + len(parts) * 2**32) % 2**63 for s in seeds],
                output="latents",
                **arguments,
            )
            parts.append(latents[:, context_frames:])
            count += self.num_frames - context_frames
            given = [latents[:, i] for i in range(-context_frames, 0)]
        made = np.concatenate(parts, axis=1)[:, : num_frames - have]
        names = ("tile_size", "fast_decode")
        options = {name: arguments[name] for name in names if name in arguments}
        size = arguments["height"], arguments["width"]
        frames = self._decode(made, size, **options)
        # What the VAE loses of the last frame, without which the next one would differ.
        last = self._encode_frames(video[:, -1:], arguments.get("tile_size"))
        lost = video[:, -1:].astype("float32") - self._decode(last, size, **options)
        fading = lost / np.arange(1, frames.shape[1] + 1)[:, None, None, None]
        frames = np.rint(np.clip(frames + fading, 0, 255)).astype("uint8")
        return np.concatenate([video, frames], axis=1)

    def _with_clip(self, video, prompts, arguments):
        """A clip at the result's size, and a prompt for each; completes arguments."""
        for side in ("height", "width"):
            arguments[side] = self._checked_size(side, arguments.get(side))
        if not prompts:
            arguments.setdefault("guidance_scale", 1.0)
        video = np.asarray(video)
        if isinstance(prompts, str | Mapping):
            prompts = [prompts] * (len(video) if video.ndim == 5 else 1)
        size = arguments["height"], arguments["width"]
        return inputs.as_videos(video, len(prompts), None, *size), prompts

    def _preview(self, show, every, latents, size) -> Preview:
        """How a video of latents like these is shown, cropped as `generate` does."""
        tiny = self._fast.model
        step = self.vae.downsampling_factor if tiny is None else 1
        height, width = (math.ceil(side / step) for side in size)
        colours = None
        if tiny is None:
            with self._at_work(self.vae):
                colours = fit_colours(self.vae, latents)
        return Preview(
            lambda done, frames: show(done, _crop(frames, height, width)),
            every,
            tiny,
            colours,
        )

    def encode_prompts(
        self,
        prompts: Sequence[str],
        prompt_weighting: bool = False,
        long_prompts: bool = False,
    ) -> Tensor:
        """Compute the text states `(B, L, D)` that the UNet attends to.

        Options are as for `generate`; with `long_prompts` L is that of all windows.

        Example:
        ```python
        task.encode_prompts(["a cat", ""]).shape  # (2, 77, 768)
        ```
        """
        if not prompt_weighting and not long_prompts:
            token_ids = self.preprocessor.tokenize(prompts)
            with self._at_work(self.text_encoder):
                return self._encode_text(token_ids)
        ids, weights = self.preprocessor.tokenize_windows(
            prompts, prompt_weighting, long_prompts
        )
        length = ids.shape[-1]
        with self._at_work(self.text_encoder):
            states = self._encode_text(ids.reshape(-1, length))
        states = weigh(states, weights.reshape(-1, length))
        return keras.ops.reshape(states, (len(ids), -1, states.shape[-1]))

    def _takes_hint(self) -> bool:
        return self.backbone.in_channels > self.backbone.out_channels

    def _makes_first_frame(self) -> bool:
        # A model that was trained to make all frames makes the first one as well.
        makes_all = "none" in self.given_frames and self.image_backbone is None
        return self._takes_hint() and not makes_all

    def _first_frame(self, text, scale, table, seeds, size, tile_size, **how):
        """What is given of videos whose first frames the image model makes.

        They are `(B, h, w, C)`; the mask is 0. `how` goes to the loop.
        """
        shape = self._latent_shape(*size)
        # What changes over time is as it is at first.
        names = ("context", "negative_context")
        first = {n: text[n][:, 0] for n in names if len(text[n].shape) == 4}
        # An inpainting UNet paints it all: mask 1, hint the latent of a zero image.
        zeros = np.zeros((1, *self._canvas(*size), 3), "float32")
        hint = np.repeat(self._encode_images(zeros, tile_size), len(seeds), axis=0)
        with self._at_work(self.image_backbone or self.backbone):
            latents = self._image_loop(
                _noise(seeds, "image", shape),
                Conditions(
                    **{**text, **first},
                    guidance_scale=scale,
                    mask=np.ones_like(hint[..., :1]),
                    hint=hint,
                ),
                table,
                _noise_keys(seeds, "image", table),
                **how,
            )
        latents = keras.ops.convert_to_numpy(latents)
        return {0: (latents, np.zeros_like(latents[..., :1]))}

    def _encode_hint(self, images, masks, tile_size):
        """Latents `(B, h, w, C)` of the hint images, and masks on their grid."""
        if images.shape[-1] == self.vae.latent_channels:
            return images, np.zeros_like(images[..., :1])
        images = _pad_to(images, self._canvas(*images.shape[1:3]))
        if masks is None:
            masks = np.zeros_like(images[..., :1])
        else:
            masks = _pad_to(masks, images.shape[1:3])
        latents = self._encode_images(images * (1.0 - masks), tile_size)
        step = self.vae.downsampling_factor
        centre = step // 2
        return latents, masks[:, centre::step, centre::step]

    def _encode_frames(self, videos, tile_size):
        frames = videos.reshape(-1, *videos.shape[2:])
        frames = _pad_to(frames, self._canvas(*frames.shape[1:3]))
        latents = self._encode_images(frames / np.float32(127.5) - 1.0, tile_size)
        return latents.reshape(*videos.shape[:2], *latents.shape[1:])

    def _encode_images(self, images, tile_size=None):
        with self._at_work(self.vae):
            return self.vae.encode_video(images[:, None], tile_size=tile_size)[:, 0]

    def _at_work(self, part):
        return on_device(part, only_now=self.low_memory)

    def _canvas(self, height, width):
        """The size that is computed, of which `generate` returns the centre.

        Sides are rounded up to what VAE and UNet can halve: 64 pixels at full size.
        """
        factor = self._size_factor()
        return tuple(math.ceil(size / factor) * factor for size in (height, width))

    def _latent_shape(self, height, width):
        canvas = self._canvas(height, width)
        sides = (size // self.vae.downsampling_factor for size in canvas)
        return (*sides, self.vae.latent_channels)

    def _size_factor(self) -> int:
        levels = max(
            len(unet.block_channels)
            for unet in (self.backbone, self.image_backbone)
            if unet is not None
        )
        return self.vae.downsampling_factor * 2 ** (levels - 1)

    def _checked_size(self, name, size) -> int:
        size = getattr(self, name) if size is None else size
        step = min(SIZE_STEP, self._size_factor())
        if not inputs.is_integer(size) or size < 1 or size % step:
            raise refusal(f"{name} must be a positive multiple of {step} pixels", size)
        return int(size)

    def save_to_preset(self, preset_dir: StrPath, max_shard_size=10) -> None:
        """Write a KerasHub preset folder; it appears whole or not at all.

        Adapters are merged into the kernels that they adapt, as Keras does in every
        file: what is loaded has none.

        Args:
            preset_dir: The folder; a preset that is there already is replaced.
            max_shard_size: Size in GB above which the weights are split.

        Raises:
            FileExistsError: If there is something at `preset_dir` that is no preset.
            FileNotFoundError: If the folder to write it in is missing.
        """
        with folder_written_aside(preset_dir, replaces="task.json") as folder:
            super().save_to_preset(str(folder), max_shard_size=max_shard_size)

    def save_task_weights(self, filepath: StrPath) -> None:
        """Write the weights of all parts but the UNet, and nothing of a training."""
        others = [self.optimizer, self._loss_tracker] if self.compiled else []
        keras.saving.save_weights(
            self, filepath, objects_to_skip=[*self.backbone._flatten_layers(), *others]
        )

    def get_config(self) -> dict[str, Any]:
        def serialize(part):
            if part is None:
                return None
            config = keras.saving.serialize_keras_object(part)
            # What a training froze is not frozen in the next.
            config["config"]["trainable"] = True
            return config

        return {
            **super().get_config(),
            "text_encoder": serialize(self.text_encoder),
            "vae": serialize(self.vae),
            "image_backbone": serialize(self.image_backbone),
            "schedule": self.schedule.get_config(),
            **{name: getattr(self, name) for name in TASK_DEFAULTS},
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if loading.WEIGHTS_FOLLOW in config:
            # It comes back here for the parts, to be made without weights too.
            return super().from_config(config)
        for key in ("text_encoder", "vae", "image_backbone"):
            if isinstance(config[key], dict):
                part = _with_dtype_of(config["backbone"], config[key], key)
                config[key] = keras.saving.deserialize_keras_object(part)
        return super().from_config(config)


def _with_dtype_of(backbone, part, name):
    """The config of `part` with the dtype that KerasHub hands to the backbone alone."""
    dtype = backbone["config"].get("dtype") if isinstance(backbone, dict) else None
    if dtype is None or isinstance(dtype, dict):
        return part
    policy = policy_of(dtype)
    if name == "text_encoder" and policy.quantization_mode is not None:
        # Its layers are KerasHub's, and stay as they are.
        policy = policy_of(policy.name.partition("_from_")[2])
    if name != "image_backbone":
        policy = without_overflow(policy)
    return {**part, "config": {**part["config"], "dtype": policy}}


def _noise(seeds, purpose, shape):
    """Standard normal `(B, *shape)`, each sample from its own seed.

    Drawn by NumPy: the same on every backend, and for every batch and device count.
    """
    return np.stack([_random(s, purpose).standard_normal(shape, "f4") for s in seeds])


def _noise_keys(seeds, purpose, table):
    """Keys `(B, 2)` of the samples' step noise, if there is any."""
    if not table.needs_noise:
        return None
    limit = 2**31
    generators = [_random(seed, f"{purpose} steps") for seed in seeds]
    return np.stack([g.integers(-limit, limit, 2, "int32") for g in generators])


def _random(seed, purpose):
    return np.random.default_rng([seed, *purpose.encode()])


def _context(states, count):
    """Text states of `count` texts a prompt and of negative ones, as conditions."""
    batch = len(states) // (count + 1)
    context, negative = states[: batch * count], states[batch * count :]
    if count > 1:
        shape = (batch, count, *states.shape[1:])
        context = keras.ops.reshape(context, shape)
        negative = keras.ops.broadcast_to(negative[:, None], shape)
    return {"context": context, "negative_context": negative}


def _hint_and_mask(given, shape, masked):
    """Hint `(B, F, h, w, C)` and mask of videos, from `(hint, mask)` by frame.

    If the model is not `masked`, it is the first alone, for all frames.
    """
    if not given:
        return np.zeros(shape, "float32"), np.ones((*shape[:-1], 1), "float32")
    nearest = nearest_frames(given, shape[1])
    hints, masks = (np.stack([given[f][i] for f in nearest], axis=1) for i in (0, 1))
    if masked:
        missing = nearest != np.arange(shape[1])
        masks = np.where(missing[:, None, None, None], 1.0, masks)
    return hints, masks.astype("float32")


def _pad_to(images, size):
    """Repeat the border of `(B, H, W, C)` on both sides up to `size`."""
    pads = [(0, 0)]
    for current, wanted in zip(images.shape[1:3], size, strict=True):
        before = (wanted - current) // 2
        pads.append((before, wanted - current - before))
    return np.pad(images, [*pads, (0, 0)], mode="edge")


def _crop(frames, height, width):
    """Cut `(B, F, H, W, C)` to its centre."""
    top = (frames.shape[2] - height) // 2
    left = (frames.shape[3] - width) // 2
    return frames[:, :, top : top + height, left : left + width]
