"""Text to video: tokenizer, text encoder, UNet, scheduler and VAE as one task."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import keras_hub
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.devices import made_on_host, on_device
from keras_makeavid.dtype_policies import policy_of, without_overflow
from keras_makeavid.files import folder_written_aside
from keras_makeavid.models import AutoencoderKL, AutoencoderTiny, UNetPseudo3D
from keras_makeavid.models.loading import (
    WEIGHTS_FOLLOW,
    FromPreset,
    check_weights_file,
    int8_policy_of,
)
from keras_makeavid.models.parts import SIZE_STEP, TASK_DEFAULTS, check_parts
from keras_makeavid.previews import Preview, fit_colours
from keras_makeavid.progress import step_progress
from keras_makeavid.sampling import Conditions, DenoisingLoop
from keras_makeavid.schedulers import NoiseSchedule, Scheduler, get_scheduler
from keras_makeavid.tasks.inputs import (
    as_count,
    as_hint_images,
    as_interval,
    as_masks,
    as_prompts,
    as_scale,
    as_seeds,
    check_flag,
    check_videos,
    is_integer,
)
from keras_makeavid.tensor import Tensor
from keras_makeavid.text import TextToVideoPreprocessor
from keras_makeavid.text.weighting import weigh
from keras_makeavid.validation import shown

if TYPE_CHECKING:
    from keras_makeavid.tasks.adapters import LoadedAdapters
    from keras_makeavid.training.video_diffusion import VideoDiffusion


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TextToVideo(FromPreset, keras_hub.models.Task):
    """Generates videos from prompts, and from a hint image if its UNet takes one.

    `compile` and `fit` train its UNet on latent videos. Weights of the UNet are the
    preset's backbone weights; those of the other parts are its task weights.

    Args:
        backbone: The `UNetPseudo3D`. One that takes latents alone, and no mask and
            hint, makes videos of prompts alone.
        preprocessor: Turns prompts into token ids.
        text_encoder: Takes `{"token_ids"}`, returns text states `(B, L, D)`.
        vae: The `AutoencoderKL`.
        image_backbone: A UNet for first frames, inpainting or not; `None` uses
            `backbone` without its temporal parts.
        schedule: The `NoiseSchedule` that the UNet was trained with, or its config.
        height: Default height of a video in pixels.
        width: Default width of a video in pixels.
        num_frames: Default number of frames.
        guidance_scale: Default weight of the prompt.
        fps: Frames a second that its videos are meant for.

    Attributes:
        low_memory: Whether `generate` takes less memory, and longer: the two passes of
            guidance follow one another, and each part is on the accelerator only while
            it works. Videos are the same but for rounding. Not saved.

    Example:
    ```python
    task = keras_makeavid.TextToVideo.from_preset("path/to/preset")
    videos = task.generate("dancing in the rain", num_frames=24, seed=0)
    keras_makeavid.video.write_video("rain.mp4", videos[0], fps=task.fps)

    task = keras_makeavid.TextToVideo.from_preset("path/to/preset", dtype="float32")
    task.compile(trainable="temporal")
    windows = keras_makeavid.data.LatentDataset("dataset", num_frames=task.num_frames)
    task.fit(windows, epochs=10)
    task.save_to_preset("trained")
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
        **kwargs,
    ):
        inputs = backbone.input
        super().__init__(
            inputs=inputs, outputs=backbone(inputs), compile=False, **kwargs
        )
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
        # A `_Training`, after `compile`.
        self._training: Any = None
        self._loaded_adapters: LoadedAdapters | None = None
        self.low_memory = False
        self._fast = _FastDecoder()
        self.height = height
        self.width = width
        self.num_frames = num_frames
        self.guidance_scale = guidance_scale
        self.fps = fps
        check_parts(backbone, text_encoder, vae, image_backbone)

        self._make_text_program()
        self._make_denoising_loops()

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike,
        load_weights: bool = True,
        *,
        motion: str | os.PathLike | None = None,
        dtype: str | keras.DTypePolicy | None = None,
        low_memory: bool = False,
        **kwargs: Any,
    ) -> TextToVideo:
        """Make the task of a preset, or of a checkpoint of Stable Diffusion 1.x.

        A checkpoint is converted and inflated as by `makeavid weights inflate`, with
        a progress bar on a terminal. What it was converted to is kept in `KERAS_HOME`,
        or else in `~/.cache/keras_makeavid`, and taken the next time.

        Args:
            preset: Name of a preset of the package, a folder, or a handle as KerasHub
                takes them, such as `hf://owner/name`; or a checkpoint: a folder in
                diffusers' layout, a repository of one, or a `.safetensors` or `.ckpt`
                file.
            load_weights: Whether to load its weights; `False` draws new ones.
            motion: AnimateDiff's motion modules, which make an image model a video
                model in place of pseudo-3D parts: a file, folder or repository of
                them, or `"v1"`, `"v2"` or `"v3"` for new ones of that form.
            dtype: Dtype policy of all parts, or its name: of Keras, or
                `"stored_bfloat16"` and `"stored_float16"` (see `StoredPolicy`). `None`
                is half precision on an accelerator, bfloat16 where it has that, and
                float32 on a CPU; a policy set by `keras.config.set_dtype_policy` goes
                first, and int8 that the preset was saved in. To train, ask for
                `"float32"` or `"mixed_bfloat16"`. Where the UNet calculates in float16,
                VAE and text encoder do in float32.
            low_memory: The task's `low_memory`.
            **kwargs: As those of KerasHub's method.

        Returns:
            The task.

        Raises:
            ValueError: If there is no such preset or dtype, or the checkpoint is
                damaged or of another family.

        Example:
        ```python
        task = TextToVideo.from_preset("makeavid_motions_small")
        ```
        """
        from keras_makeavid.tasks.preset_source import as_preset

        preset = as_preset(preset, motion)
        if dtype is not None or int8_policy_of(preset) is None:
            kwargs["dtype"] = policy_of(dtype)
        with made_on_host(low_memory):
            task = super().from_preset(preset, load_weights, **kwargs)
        task.low_memory = low_memory
        return task

    def load_task_weights(self, filepath: str) -> None:
        """Load the weights of all parts but the backbone, from a file of a preset."""
        check_weights_file(filepath)
        super().load_task_weights(filepath)

    def quantize(self, mode: str = "int8", config: Any = None, **kwargs: Any) -> None:
        """Round the weights of UNet, image model and VAE to int8.

        See `UNetPseudo3D.quantize`. The text encoder, which runs once a prompt, stays
        as it is. With `dtype="int8_from_float32"`, `from_preset` makes the same task
        without the full weights in memory.

        Args:
            mode: `"int8"`.
            config: As for `UNetPseudo3D.quantize`.
            **kwargs: As for `UNetPseudo3D.quantize`.

        Raises:
            ValueError: If there is another mode or option.

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

    def load_fast_decoder(self, source: str | os.PathLike | AutoencoderTiny) -> None:
        """Load what decodes fast: for `generate(fast_decode=True)` and its previews.

        It is no part of the task, and presets do not hold it.

        Args:
            source: An `AutoencoderTiny`; or a preset of one, a folder of diffusers'
                class, its file of weights alone, or a repository of one, such as
                `"hf://madebyollin/taesd"`.

        Raises:
            FileNotFoundError: If there is nothing.
            ValueError: If it is damaged, or of other latents than the VAE's.

        Example:
        ```python
        task.load_fast_decoder("hf://madebyollin/taesd")
        videos = task.generate("a cat", fast_decode=True)
        ```
        """
        tiny = source
        if not isinstance(tiny, AutoencoderTiny):
            # Those without one do not wait for it to be imported.
            from weights_tools import load_model

            tiny = load_model(tiny, "tiny_vae", dtype=self.vae.compute_dtype)
        for name in ("in_channels", "latent_channels", "downsampling_factor"):
            received, expected = getattr(tiny, name), getattr(self.vae, name)
            if received != expected:
                raise ValueError(
                    f"The fast decoder's {name} must be {expected}, as the VAE's. "
                    f"Received: {received}"
                )
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

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        trainable: str = "temporal",
        *,
        hint_spacing: int | None = None,
        caption_dropout: float = 0.0,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Make the UNet ready to train on latent videos with `fit`.

        Noise schedule, scale of the latents and the empty prompt are the task's own.
        VAE, text encoder and `image_backbone` do not train.

        Args:
            optimizer: As for `keras.Model.compile`; `None` is this package's `AdamW`
                with the settings of the published model.
            trainable: What trains: `"temporal"`, `"spatial"`, `"all"`, a regular
                expression on paths of layers (see `set_trainable`), or `"lora"`:
                adapters, which are added to every attention, of rank 8, where
                `add_lora` has added none before.
            hint_spacing: The hint is every `hint_spacing`-th frame, repeated that many
                times; `None` is the first frame only.
            caption_dropout: Share of the samples that train with the empty prompt
                instead of theirs, for guidance.
            min_snr_gamma: Weighs the timesteps by min-SNR-gamma; `None` does not.
            seed: Seed of timesteps, noise, dropout and new adapters.
            **kwargs: See `keras.Model.compile`, such as `run_eagerly`.

        Raises:
            ValueError: If an argument makes no sense, nothing would train, or the task
                was loaded to generate only (`low_memory`, or half precision weights).

        Example:
        ```python
        task.compile(optimizer="adam", trainable="lora", seed=0)
        ```
        """
        # Those who only generate do not wait for it to be imported.
        from keras_makeavid.recipes.schema import Lora
        from keras_makeavid.training.lora import add_lora, has_lora
        from keras_makeavid.training.optimizer import AdamW
        from keras_makeavid.training.video_diffusion import objective_of

        if self.low_memory or self.backbone.variable_dtype != "float32":
            dtype = self.backbone.dtype_policy.name
            raise ValueError(
                "To train, load the task with dtype='float32' or 'mixed_bfloat16' and "
                f"without low_memory. Received: dtype={dtype!r}, "
                f"low_memory={self.low_memory}"
            )
        if trainable == "lora" and not has_lora(self.backbone):
            lora = Lora()
            add_lora(self.backbone, lora.rank, lora.alpha, lora.layers, seed or 0)
            # The programs compiled before do not know the adapters.
            self._make_denoising_loops()
        settings: dict[str, Any] = {
            "trainable": trainable,
            "hint_spacing": hint_spacing,
            "caption_dropout": caption_dropout,
            "min_snr_gamma": min_snr_gamma,
            "seed": seed,
        }
        objective = objective_of(self, **settings)
        for part in (self.vae, self.text_encoder, self.image_backbone):
            if part is not None:
                part.trainable = False
        if self._training is None:
            self.seed_generator = objective.seed_generator
        else:
            self.seed_generator.state.assign(objective.seed_generator.state)
            objective.seed_generator = self.seed_generator
        self._training = _Training(objective, settings)
        super().compile(optimizer=optimizer or AdamW(), **kwargs)

    def fit(
        self, x: Any = None, *, allow_other_encoder: bool = False, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train on latent videos, after `compile`.

        For each batch Keras runs `call` and `compute_loss`, which here are those of the
        `VideoDiffusion` that `compile` made: it draws noise and compares predictions.

        Args:
            x: A `LatentDataset`; or batches, in any form that Keras takes, of a dict
                of `latents` `(B, F, H, W, C)`, not scaled, and `context` `(B, L, D)`.
            allow_other_encoder: Whether a `LatentDataset` may be of another VAE or
                text encoder than the task's.
            **kwargs: See `keras.Model.fit`, such as `epochs` and `callbacks`.

        Returns:
            Keras's `History`, of `loss`.

        Raises:
            ValueError: If another VAE or text encoder made the dataset.

        Example:
        ```python
        task.compile()
        windows = LatentDataset("dataset", num_frames=task.num_frames)
        task.fit(windows, epochs=10, callbacks=[keras.callbacks.CSVLogger("log.csv")])
        ```
        """
        self._check_datasets(x, kwargs.get("validation_data"), allow_other_encoder)
        if kwargs.get("initial_epoch") and _is_latent_dataset(x):
            x.epoch = kwargs["initial_epoch"]
        # Past KerasHub's own, which would preprocess.
        return keras.Model.fit(self, x, **kwargs)

    def evaluate(
        self, x: Any = None, *, allow_other_encoder: bool = False, **kwargs: Any
    ) -> Any:
        """Compute the loss on latent videos, after `compile`.

        Args:
            x: As for `fit`.
            allow_other_encoder: As for `fit`.
            **kwargs: See `keras.Model.evaluate`.

        Returns:
            The loss, or what else Keras was asked for.

        Raises:
            ValueError: As for `fit`.

        Example:
        ```python
        task.evaluate(LatentDataset("held_out", num_frames=task.num_frames))  # 0.031
        ```
        """
        if not kwargs.get("_use_cached_eval_dataset"):
            self._check_datasets(x, None, allow_other_encoder)
        return keras.Model.evaluate(self, x, **kwargs)

    def call(self, inputs, training=None, mask=None, **kwargs) -> Tensor:
        if isinstance(inputs, dict) and "latents" in inputs:
            return self._training.objective.call(inputs)
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ) -> Tensor:
        objective = self._training.objective
        return objective.compute_loss(x, y, y_pred, sample_weight, training)

    def preprocess_samples(self, x, y=None, sample_weight=None) -> Any:
        # Training batches hold text states, and the tokenizer has no say in them.
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def make_train_function(self, force=False) -> Callable[..., Any]:
        self._update_empty_prompt()
        # TensorFlow traces a step that makes variables on its way a second time.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def make_test_function(self, force=False) -> Callable[..., Any]:
        self._update_empty_prompt()
        return super().make_test_function(force)

    def _update_empty_prompt(self):
        objective = self._training.objective
        if objective.caption_dropout:
            # Now, as `compile` comes before the weights where a file is loaded.
            objective.empty_context.assign(self.encode_prompts([""])[0])

    def _check_datasets(self, x, validation_data, allow_other_encoder):
        from keras_makeavid.data.clip_encoder import check_encoder

        for dataset in (x, validation_data):
            if _is_latent_dataset(dataset) and not allow_other_encoder:
                note = check_encoder(dataset.reader, self.vae, self.text_encoder)
                if note is not None:
                    warnings.warn(note, stacklevel=3)

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        negative_prompts: str | Sequence[str] | None = None,
        hint_image: np.ndarray | Sequence[Any] | None = None,
        mask_image: np.ndarray | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_steps: int = 20,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        scheduler: str | Scheduler = "dpm++2m",
        spatial_only: bool = False,
        seed: int | Sequence[int] | None = None,
        progress: bool | Callable[[int, int], None] = False,
        tile_size: int | None = None,
        prompt_weighting: bool = False,
        long_prompts: bool = False,
        fast_decode: bool = False,
        preview: Callable[[int, int, np.ndarray], None] | None = None,
        preview_every: int = 5,
    ) -> np.ndarray:
        """Generate a video for each prompt.

        A sample depends on its own seed only, not on the batch it is in: the noise to
        start from, and the noise that some schedulers add in each step.

        Args:
            prompts: One prompt or a list of them.
            negative_prompts: What to avoid: one for all, one for each, or `None`.
            hint_image: The picture to set in motion: uint8 `(H, W, 3)` for all, or
                `(B, H, W, 3)`. With none, a first frame is made by the image model. A
                UNet that takes latents alone takes no picture, and makes no such frame.
            mask_image: `(H, W)` or `(B, H, W)`, bool, uint8 or float in `[0, 1]`:
                1 is to be filled, 0 is given by `hint_image`. `None` is 0 everywhere.
            num_frames: Number of frames F; `None` is the task's own.
            height: Height in pixels, a multiple of 32 (less for models of fewer
                levels); `None` is the task's own.
            width: Width in pixels, likewise.
            num_steps: Number of sampling steps.
            guidance_scale: Weight of the prompt against the negative prompt; `None`
                is the task's own. 1 is without guidance and costs half.
            image_guidance_scale: The same for the first frame; `None` is
                `guidance_scale`.
            guidance_rescale: From 0 to 1, against blown contrast at high guidance
                (arXiv 2305.08891): how far the contrast of guided predictions goes back
                to that of the prompt's own.
            guidance_interval: Noise levels `(low, high)` with guidance; a step at
                others makes one pass of the UNet, not two (arXiv 2404.07724). They are
                shares of noise in `[0, 1]`, see `NoiseSchedule.noise_scale`.
            scheduler: A name that `get_scheduler` knows, such as `"dpm++2m"`, `"lcm"`
                or `"euler-ancestral"`, or a `Scheduler`.
            spatial_only: Leave out the temporal parts: each frame is an image of its
                own, to show what the temporal parts do.
            seed: A number (sample `i` takes `seed + i`), a list, or `None`.
            progress: `True` shows a bar; a function is called as
                `progress(step, num_steps)` after each step.
            tile_size: Side in pixels of the overlapping tiles in which the VAE codes
                larger frames, for less memory; `None` codes whole frames.
            prompt_weighting: Whether `(word)`, `(word:1.3)` and `[word]` weigh words,
                in `prompts` and `negative_prompts` (see `text.parse_weights`).
            long_prompts: Whether a prompt of more tokens than the text encoder takes
                is read in windows, 75 tokens each, and not cut. All prompts of a call
                then have as many windows as the longest.
            fast_decode: Whether the decoder of `load_fast_decoder` decodes the video,
                in place of the VAE.
            preview: Called as `preview(step, num_steps, frames)` every `preview_every`
                steps of the video, numbered as for `progress`. `frames` are uint8
                `(B, F, h, w, 3)`, what the video is expected to become: of full size
                from the decoder of `load_fast_decoder`; without one, of the size of
                the latents by a linear map.
            preview_every: Number of steps.

        Returns:
            uint8 `(B, F, H, W, 3)`.

        Raises:
            ValueError: If an argument does not fit; before anything is computed.

        Example:
        ```python
        task.generate(["a cat", "a dog"], negative_prompts="blurry", seed=1)
        ```
        """
        prompts, negatives = as_prompts(prompts, negative_prompts)
        batch = len(prompts)
        seeds = as_seeds(seed, batch)
        height = self._checked_size("height", self.height if height is None else height)
        width = self._checked_size("width", self.width if width is None else width)
        num_frames = self.num_frames if num_frames is None else num_frames
        num_frames = as_count("num_frames", num_frames)
        self.backbone.check_frames(num_frames)
        check_videos(batch, num_frames, height, width)
        num_steps = as_count("num_steps", num_steps)
        if guidance_scale is None:
            guidance_scale = self.guidance_scale
        guidance_scale = as_scale("guidance_scale", guidance_scale)
        if image_guidance_scale is None:
            image_guidance_scale = guidance_scale
        image_guidance_scale = as_scale("image_guidance_scale", image_guidance_scale)
        guidance_rescale = as_scale("guidance_rescale", guidance_rescale)
        if not 0 <= guidance_rescale <= 1:
            raise ValueError(
                f"guidance_rescale must be from 0 to 1. Received: {guidance_rescale!r}"
            )
        low, high = as_interval("guidance_interval", guidance_interval)
        check_flag("spatial_only", spatial_only)
        check_flag("prompt_weighting", prompt_weighting)
        check_flag("long_prompts", long_prompts)
        if not callable(progress):
            check_flag("progress", progress, ", or a function of (step, total)")
        if tile_size is not None:
            tile_size = as_count("tile_size", tile_size)
        check_flag("fast_decode", fast_decode)
        if fast_decode and self._fast.model is None:
            raise ValueError(
                "fast_decode needs a decoder, as of "
                'load_fast_decoder("hf://madebyollin/taesd"). '
                "Received: fast_decode=True, and none is loaded"
            )
        if preview is not None and not callable(preview):
            raise ValueError(
                "preview must be a function of (step, num_steps, frames) or None. "
                f"Received: {preview!r}"
            )
        preview_every = as_count("preview_every", preview_every)
        table = get_scheduler(scheduler, self.schedule).table(num_steps)
        levels = self.schedule.noise_scale(table.timesteps)
        guided = np.flatnonzero((low <= levels) & (levels <= high))
        guided_steps = range(guided[0], guided[-1] + 1) if guided.size else range(0)
        if hint_image is not None:
            self._check_takes_hint()
            hint_image = as_hint_images(hint_image, batch, height, width)
        elif mask_image is not None:
            raise ValueError(
                "mask_image says which part of hint_image to keep. "
                "Received: mask_image without hint_image"
            )
        if mask_image is not None:
            mask_image = as_masks(mask_image, batch, height, width)
        self.vae.check_tile_size(tile_size)

        # Together, as both must have as many windows.
        context = self._encode([*prompts, *negatives], prompt_weighting, long_prompts)
        text = {
            "context": context[:batch],
            "negative_context": context[batch:],
            "guidance_rescale": guidance_rescale,
        }
        makes_frame = hint_image is None and self._takes_hint()
        shape = (num_frames, *self._latent_shape(height, width))
        total = num_steps * (1 + makes_frame)
        with step_progress(progress, total) as report:
            done = 0
            if not self._takes_hint():
                hint = mask = np.zeros((batch, 1, 1, 1), "float32")
            elif hint_image is None:
                hint, mask = self._first_frame(
                    text,
                    image_guidance_scale,
                    table,
                    guided_steps,
                    seeds,
                    (height, width),
                    tile_size,
                    report,
                )
                done = num_steps
            else:
                hint, mask = self._encode_hint(hint_image, mask_image, tile_size)
            previewed = preview and self._preview(
                lambda step, frames: preview(done + step, total, frames),
                preview_every,
                hint if self._takes_hint() else _noise(seeds, "colours", shape[1:]),
                (height, width),
            )
            with self._at_work(self.backbone):
                latents = self._video_loop(
                    _noise(seeds, "video", shape),
                    Conditions(
                        **text,
                        guidance_scale=guidance_scale,
                        mask=_over_frames(mask, num_frames),
                        hint=_over_frames(hint, num_frames),
                    ),
                    table,
                    _noise_keys(seeds, "video", table),
                    progress=report and (lambda step: report(done + step)),
                    spatial_only=spatial_only,
                    low_memory=self.low_memory,
                    guided_steps=guided_steps,
                    preview=previewed,
                )
        latents = keras.ops.convert_to_numpy(latents)
        if fast_decode and self._fast.model:
            frames = self._fast.model.decode_video(latents, tile_size=tile_size)
        else:
            with self._at_work(self.vae):
                frames = self.vae.decode_video(latents, tile_size=tile_size)
        return _crop(frames, height, width)

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

    def load_lora(
        self, path: str | os.PathLike, scale: float = 1.0, name: str | None = None
    ) -> str:
        """Load adapters (LoRA) for the UNet and the text encoder from a file.

        They are merged into the weights: generating costs the same with them, and
        nothing is compiled anew when they are loaded, scaled or unloaded. Several add
        up. A file that is saved of the task has them merged.

        Args:
            path: A file in the form of kohya, diffusers or PEFT, or a folder of the
                last two.
            scale: Weight of what they add.
            name: Name for the methods below; `None` is the file's, without its suffix.

        Returns:
            The name.

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If the file is damaged, of another kind of adapter (LoKr, DoRA
                and so on), or does not fit the models whole, or the name is taken.

        Example:
        ```python
        task.load_lora("style.safetensors", scale=0.8)
        task.load_lora("lcm-lora-sdv1-5.safetensors", name="lcm")
        ```
        """
        return self._adapters().load(path, scale, name)

    @property
    def lora_scales(self) -> dict[str, float]:
        """The scale of each loaded adapter by name."""
        return self._adapters().scales

    def set_lora_scales(self, scales: dict[str, float]) -> None:
        """Change the scales of loaded adapters.

        Args:
            scales: New scales by name; others stay. 0 turns an adapter off.

        Raises:
            ValueError: If a name is not loaded, a scale is no finite number, or the
                weights have changed since, by training or loading others.

        Example:
        ```python
        task.set_lora_scales({"style": 0.5, "lcm": 1.0})
        ```
        """
        self._adapters().set_scales(scales)

    def unload_lora(self, name: str | None = None) -> None:
        """Take adapters out again; with the last, the weights are as before to the bit.

        Args:
            name: Of the adapter; `None` takes out all.

        Raises:
            ValueError: As for `set_lora_scales`.

        Example:
        ```python
        task.unload_lora("style")
        ```
        """
        self._adapters().unload(name)

    def fuse_lora(self) -> None:
        """Keep the weights as adapters made them, and forget the adapters.

        This frees the memory of the weights as they were.

        Example:
        ```python
        task.fuse_lora()
        ```
        """
        self._adapters().fuse()

    def save_lora(self, path: str | os.PathLike, form: str = "diffusers") -> int:
        """Write the adapters that the UNet trains to a file for `load_lora`.

        Args:
            path: The file, `.safetensors`; what is there is replaced.
            form: `"diffusers"` or `"kohya"`.

        Returns:
            The number of layers with adapters.

        Raises:
            ValueError: If `compile(trainable="lora")` has added no adapters, or the
                form or the suffix is another.

        Example:
        ```python
        task.compile(trainable="lora")
        task.fit(windows, epochs=10)
        task.save_lora("style.safetensors")
        ```
        """
        from keras_makeavid.training.lora import save_lora

        return save_lora(self.backbone, path, form)

    def load_embedding(
        self, path: str | os.PathLike, token: str | None = None
    ) -> list[str]:
        """Load the vectors of a learnt token (textual inversion) from a file.

        Then a prompt may hold the token. A preset that is saved keeps it.

        Args:
            path: A `.safetensors`, `.pt` or `.bin` file of diffusers or of
                AUTOMATIC1111.
            token: The token; `None` is the file's own, or the name of the file.

        Returns:
            The tokens that are new: `token`, and `token_1` and so on for further
            vectors, all of which the first one in a prompt stands for.

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If the file is damaged or for another text encoder, or the
                token is known already.

        Example:
        ```python
        task.load_embedding("learned_embeds.safetensors")  # ["<cat-toy>"]
        task.generate("a <cat-toy> in the snow")
        ```
        """
        from keras_makeavid.tasks.embeddings import with_embedding

        old = (self.preprocessor, self.text_encoder)
        tokens, self.preprocessor, self.text_encoder = with_embedding(*old, path, token)
        for part in old:
            self._tracker.untrack(part)
        self._make_text_program()
        return tokens

    def _adapters(self):
        if self._loaded_adapters is None:
            from keras_makeavid.tasks.adapters import LoadedAdapters

            self._loaded_adapters = LoadedAdapters(self)
        return self._loaded_adapters

    def encode_prompts(
        self,
        prompts: Sequence[str],
        prompt_weighting: bool = False,
        long_prompts: bool = False,
    ) -> Tensor:
        """Compute the text states that the UNet attends to.

        Args:
            prompts: A list of them.
            prompt_weighting: As for `generate`.
            long_prompts: As for `generate`.

        Returns:
            A tensor `(B, L, D)`; with `long_prompts` L is that of a window times their
            number.

        Example:
        ```python
        task.encode_prompts(["a cat", ""]).shape  # (2, 77, 768)
        ```
        """
        return self._encode(prompts, prompt_weighting, long_prompts)

    def _encode(self, prompts, weighted, long):
        if not weighted and not long:
            token_ids = self.preprocessor.tokenize(prompts)
            with self._at_work(self.text_encoder):
                return self._encode_text(token_ids)
        ids, weights = self.preprocessor.tokenize_windows(prompts, weighted, long)
        length = ids.shape[-1]
        with self._at_work(self.text_encoder):
            states = self._encode_text(ids.reshape(-1, length))
        states = weigh(states, weights.reshape(-1, length))
        return keras.ops.reshape(states, (len(ids), -1, states.shape[-1]))

    def _takes_hint(self) -> bool:
        return self.backbone.in_channels > self.backbone.out_channels

    def _check_takes_hint(self):
        if not self._takes_hint():
            raise ValueError(
                "The UNet takes latents alone, and no mask and hint: give no "
                "hint_image, or make the task of an inpainting model. "
                f"Received: hint_image for in_channels={self.backbone.in_channels}"
            )

    def _first_frame(
        self, text, guidance_scale, table, guided_steps, seeds, size, tile_size, report
    ):
        """Latents `(B, h, w, C)` of first frames by the image model, and mask 0."""
        shape = self._latent_shape(*size)
        # An inpainting UNet paints it all: mask 1, hint the latent of a zero image.
        zeros = np.zeros((1, *self._canvas(*size), 3), "float32")
        hint = np.repeat(self._encode_images(zeros, tile_size), len(seeds), axis=0)
        with self._at_work(self.image_backbone or self.backbone):
            latents = self._image_loop(
                _noise(seeds, "image", shape),
                Conditions(
                    **text,
                    guidance_scale=guidance_scale,
                    mask=np.ones_like(hint[..., :1]),
                    hint=hint,
                ),
                table,
                _noise_keys(seeds, "image", table),
                progress=report,
                low_memory=self.low_memory,
                guided_steps=guided_steps,
            )
        latents = keras.ops.convert_to_numpy(latents)
        return latents, np.zeros_like(latents[..., :1])

    def _encode_hint(self, images, masks, tile_size):
        """Latents `(B, h, w, C)` of the hint images, and masks on their grid."""
        images = _pad_to(images, self._canvas(*images.shape[1:3]))
        if masks is None:
            masks = np.zeros_like(images[..., :1])
        else:
            masks = _pad_to(masks, images.shape[1:3])
        latents = self._encode_images(images * (1.0 - masks), tile_size)
        step = self.vae.downsampling_factor
        centre = step // 2
        return latents, masks[:, centre::step, centre::step]

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
        step = min(SIZE_STEP, self._size_factor())
        if not is_integer(size) or size < 1 or size % step:
            raise ValueError(
                f"{name} must be a positive multiple of {step} pixels. "
                f"Received: {shown(size)}"
            )
        return int(size)

    def save_to_preset(self, preset_dir: str | os.PathLike, max_shard_size=10) -> None:
        """Write a KerasHub preset folder; it appears whole or not at all.

        Adapters are merged into the kernels that they adapt, as Keras does in every
        file: what is loaded has none.

        Args:
            preset_dir: The folder; a preset that is there already is replaced.
            max_shard_size: Size in GB above which the weights are split.

        Raises:
            FileExistsError: If there is something at `preset_dir` that is no preset.
            FileNotFoundError: If the folder to write it in is missing.

        Example:
        ```python
        task.save_to_preset("my_preset")
        ```
        """
        with folder_written_aside(preset_dir, replaces="task.json") as folder:
            super().save_to_preset(str(folder), max_shard_size=max_shard_size)

    def save_task_weights(self, filepath: str | os.PathLike) -> None:
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

    def get_compile_config(self) -> dict[str, Any] | None:
        # A file has no adapters, and so nothing that would train.
        if not self.compiled or self._training.settings["trainable"] == "lora":
            return None
        return {**super().get_compile_config(), **self._training.settings}

    def compile_from_config(self, config) -> None:
        config = dict(config)
        config["optimizer"] = keras.saving.deserialize_keras_object(config["optimizer"])
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        if WEIGHTS_FOLLOW in config:
            # It comes back here for the parts, to be made without weights too.
            return super().from_config(config)
        for key in ("text_encoder", "vae", "image_backbone"):
            if isinstance(config[key], dict):
                part = _with_dtype_of(config["backbone"], config[key], key)
                config[key] = keras.saving.deserialize_keras_object(part)
        return super().from_config(config)


@dataclasses.dataclass(frozen=True)
class _Training:
    """How a task trains. Keras does not look for layers to save in here.

    Args:
        objective: Around the task's own UNet, with the task's own seeds.
        settings: Arguments of `compile`.
    """

    objective: VideoDiffusion
    settings: dict[str, Any]


@dataclasses.dataclass
class _FastDecoder:
    """What decodes fast, if it is loaded. Keras does not look for layers in here."""

    model: AutoencoderTiny | None = None


def _with_dtype_of(backbone, part, name):
    """The config of `part` with the dtype that `from_preset` put into the backbone's.

    KerasHub hands a dtype asked for to the backbone alone; it is meant for the task.
    """
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
    return np.stack(
        [_generator(s, purpose).standard_normal(shape, "f4") for s in seeds]
    )


def _noise_keys(seeds, purpose, table):
    """Keys `(B, 2)` of the samples' step noise, if there is any."""
    if not table.needs_noise:
        return None
    limit = 2**31
    generators = [_generator(seed, f"{purpose} steps") for seed in seeds]
    return np.stack([g.integers(-limit, limit, 2, "int32") for g in generators])


def _generator(seed, purpose):
    return np.random.default_rng([seed, *purpose.encode()])


def _over_frames(latents, num_frames):
    return np.repeat(latents[:, None], num_frames, axis=1)


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


def _is_latent_dataset(data) -> bool:
    from keras_makeavid.data.latent_dataset import LatentDataset

    return isinstance(data, LatentDataset)
