"""Text to video: tokenizer, text encoder, UNet, scheduler and VAE as one task."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

import keras
import keras_hub
import numpy as np

from keras_makeavid.compilation import compile_inference
from keras_makeavid.files import folder_written_aside
from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.models.loading import FromPreset
from keras_makeavid.progress import step_progress
from keras_makeavid.sampling import Conditions, DenoisingLoop
from keras_makeavid.schedulers import NoiseSchedule, Scheduler, get_scheduler
from keras_makeavid.tasks.inputs import as_hint_images, as_masks, as_prompts, as_seeds
from keras_makeavid.text import TextToVideoPreprocessor

# Spec section 6: sizes come in these steps, whatever the levels would need.
SIZE_STEP = 32
# What `generate` takes where it is not told.
TASK_DEFAULTS = ("height", "width", "num_frames", "guidance_scale", "fps")


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TextToVideo(FromPreset, keras_hub.models.Task):
    """Generates videos from prompts, and from a hint image if there is one.

    Spec section 6. Weights of the UNet are the preset's backbone weights; those of
    the other parts are its task weights.

    Args:
        backbone: the `UNetPseudo3D`.
        preprocessor: turns prompts into token ids.
        text_encoder: takes `{"token_ids"}`, returns text states `(B, L, D)`.
        vae: the `AutoencoderKL`.
        image_backbone: a UNet for first frames, inpainting or not; `None` uses
            `backbone` without its temporal parts.
        schedule: the `NoiseSchedule` that the UNet was trained with, or its config.
        height: default height of a video in pixels.
        width: default width of a video in pixels.
        num_frames: default number of frames.
        guidance_scale: default weight of the prompt.
        fps: frames a second that its videos are meant for.

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
        self.height = height
        self.width = width
        self.num_frames = num_frames
        self.guidance_scale = guidance_scale
        self.fps = fps
        self._check_parts()

        self._encode_text = compile_inference(
            lambda token_ids: text_encoder({"token_ids": token_ids}), [text_encoder]
        )
        self._denoise = DenoisingLoop(backbone)
        self._denoise_image = (
            DenoisingLoop(image_backbone) if image_backbone else self._denoise
        )

    def generate(
        self,
        prompts: str | Sequence[str],
        negative_prompts: str | Sequence[str] | None = None,
        hint_image: np.ndarray | None = None,
        mask_image: np.ndarray | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_steps: int = 20,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        scheduler: str | Scheduler = "dpm++2m",
        spatial_only: bool = False,
        seed: int | Sequence[int] | None = None,
        progress: bool | Callable[[int, int], None] = False,
        tile_size: int | None = None,
    ) -> np.ndarray:
        """Generate a video for each prompt.

        A sample depends on its own seed only, not on the batch it is in.

        Args:
            prompts: one prompt or a list of them.
            negative_prompts: what to avoid: one for all, one for each, or `None`.
            hint_image: the picture to set in motion: uint8 `(H, W, 3)` for all, or
                `(B, H, W, 3)`. With none, a first frame is made by the image model.
            mask_image: `(H, W)` or `(B, H, W)`, bool, uint8 or float in `[0, 1]`:
                1 is to be filled, 0 is given by `hint_image`. `None` is 0 everywhere.
            num_frames: number of frames F; `None` is the task's own.
            height: height in pixels, a multiple of 32 (less for models of fewer
                levels); `None` is the task's own.
            width: width in pixels, likewise.
            num_steps: number of sampling steps.
            guidance_scale: weight of the prompt against the negative prompt; `None`
                is the task's own. 1 is without guidance and costs half.
            image_guidance_scale: the same for the first frame; `None` is
                `guidance_scale`.
            scheduler: `"dpm++2m"`, `"ddim"`, `"euler"` or a `Scheduler`.
            spatial_only: leave out the temporal parts: each frame is an image of its
                own, to show what the temporal parts do.
            seed: a number (sample `i` takes `seed + i`), a list, or `None`.
            progress: `True` shows a bar; a function is called as
                `progress(step, num_steps)` after each step.
            tile_size: side in pixels of the overlapping tiles in which the VAE codes
                larger frames, for less memory; `None` codes whole frames.

        Returns:
            uint8 `(B, F, H, W, 3)`.

        Raises:
            ValueError: if an argument does not fit; before anything is computed.

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
        _check_count("num_frames", num_frames)
        if guidance_scale is None:
            guidance_scale = self.guidance_scale
        _check_guidance("guidance_scale", guidance_scale)
        if image_guidance_scale is None:
            image_guidance_scale = guidance_scale
        _check_guidance("image_guidance_scale", image_guidance_scale)
        table = get_scheduler(scheduler, self.schedule).table(num_steps)
        if hint_image is not None:
            hint_image = as_hint_images(hint_image, batch, height, width)
        elif mask_image is not None:
            raise ValueError(
                "mask_image says which part of hint_image to keep. "
                "Received: mask_image without hint_image"
            )
        if mask_image is not None:
            mask_image = as_masks(mask_image, batch, height, width)
        self.vae.check_tile_size(tile_size)

        token_ids = [
            self.preprocessor.tokenize(texts) for texts in (prompts, negatives)
        ]
        text = tuple(self._encode_text(ids) for ids in token_ids)
        total = num_steps * (1 if hint_image is not None else 2)
        with step_progress(progress, total) as report:
            if hint_image is None:
                hint, mask = self._first_frame(
                    text,
                    image_guidance_scale,
                    table,
                    seeds,
                    (height, width),
                    tile_size,
                    report,
                )
                done = num_steps
            else:
                hint, mask = self._encode_hint(hint_image, mask_image, tile_size)
                done = 0
            latents = self._denoise(
                _noise(seeds, "video", (num_frames, *hint.shape[1:])),
                Conditions(
                    *text,
                    guidance_scale,
                    _over_frames(mask, num_frames),
                    _over_frames(hint, num_frames),
                ),
                table,
                _step_noise(seeds, "video", table, (num_frames, *hint.shape[1:])),
                report and (lambda step: report(done + step)),
                spatial_only,
            )
        frames = self.vae.decode_video(
            keras.ops.convert_to_numpy(latents), tile_size=tile_size
        )
        return _crop(frames, height, width)

    def encode_prompts(self, prompts: Sequence[str]):
        """Compute the text states that the UNet attends to.

        Args:
            prompts: a list of them.

        Returns:
            A tensor `(B, L, D)`.

        Example:
        ```python
        task.encode_prompts(["a cat", ""]).shape  # (2, 77, 768)
        ```
        """
        return self._encode_text(self.preprocessor.tokenize(prompts))

    def _first_frame(self, text, guidance_scale, table, seeds, size, tile_size, report):
        """Latents `(B, h, w, C)` of first frames by the image model, and mask 0."""
        shape = self._latent_shape(*size)
        # An inpainting UNet paints it all: mask 1, hint the latent of a zero image.
        zeros = np.zeros((1, *self._canvas(*size), 3), "float32")
        hint = np.repeat(self._encode_images(zeros, tile_size), len(seeds), axis=0)
        latents = self._denoise_image(
            _noise(seeds, "image", shape),
            Conditions(*text, guidance_scale, np.ones_like(hint[..., :1]), hint),
            table,
            _step_noise(seeds, "image", table, shape),
            report,
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
        return self.vae.encode_video(images[:, None], tile_size=tile_size)[:, 0]

    def _canvas(self, height, width):
        """The size of the pictures that the levels can halve, at least as large."""
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
        if not isinstance(size, int | np.integer) or size < 1 or size % step:
            raise ValueError(
                f"{name} must be a positive multiple of {step} pixels. "
                f"Received: {size!r}"
            )
        return int(size)

    def _check_parts(self):
        width = self.text_encoder.output.shape[-1]
        for unet in (self.backbone, self.image_backbone):
            if unet is not None and unet.context_dim != width:
                raise ValueError(
                    f"The text encoder's states have {width} channels. "
                    f"Received: a UNet with context_dim={unet.context_dim}"
                )
        channels = self.vae.latent_channels
        inpainting = 2 * channels + 1
        _check_channels("backbone", self.backbone, [inpainting], channels)
        if self.image_backbone is not None:
            _check_channels(
                "image_backbone", self.image_backbone, [channels, inpainting], channels
            )

    def save_to_preset(self, preset_dir: str | os.PathLike, max_shard_size=10) -> None:
        """Write a KerasHub preset folder; it appears whole or not at all.

        Args:
            preset_dir: the folder; a preset that is there already is replaced.
            max_shard_size: size in GB above which the weights are split.

        Raises:
            FileExistsError: if there is something at `preset_dir` that is no preset.
            FileNotFoundError: if the folder to write it in is missing.

        Example:
        ```python
        task.save_to_preset("my_preset")
        ```
        """
        with folder_written_aside(preset_dir, replaces="task.json") as folder:
            super().save_to_preset(str(folder), max_shard_size=max_shard_size)

    def get_config(self):
        def serialize(part):
            return None if part is None else keras.saving.serialize_keras_object(part)

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
        for key in ("text_encoder", "vae", "image_backbone"):
            if isinstance(config[key], dict):
                part = _with_dtype_of(config["backbone"], config[key])
                config[key] = keras.saving.deserialize_keras_object(part)
        return super().from_config(config)


def _with_dtype_of(backbone, part):
    """The config of `part` with the dtype that `from_preset` put into the backbone's.

    KerasHub hands a dtype asked for to the backbone alone; it is meant for the task.
    """
    dtype = backbone["config"].get("dtype") if isinstance(backbone, dict) else None
    if dtype is None or isinstance(dtype, dict):
        return part
    return {**part, "config": {**part["config"], "dtype": dtype}}


def _noise(seeds, purpose, shape):
    """Standard normal `(B, *shape)`, each sample from its own seed.

    Drawn by NumPy: the same on every backend, and for every batch and device count.
    """
    return np.stack(
        [_generator(s, purpose).standard_normal(shape, "f4") for s in seeds]
    )


def _step_noise(seeds, purpose, table, shape):
    if not table.needs_noise:
        return None
    steps = (len(table.timesteps), *shape)
    return np.moveaxis(_noise(seeds, f"{purpose} steps", steps), 0, 1)


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


def _check_channels(name, unet, takes, latent_channels):
    if unet.in_channels not in takes or unet.out_channels != latent_channels:
        raise ValueError(
            f"For a VAE of {latent_channels} latent channels the {name} must take "
            f"{' or '.join(map(str, takes))} channels and return {latent_channels}. "
            f"Received: in_channels={unet.in_channels}, "
            f"out_channels={unet.out_channels}"
        )


def _check_count(name, value):
    if not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer. Received: {value!r}")


def _check_guidance(name, value):
    if not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number. Received: {value!r}")
