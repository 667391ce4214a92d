"""A folder as diffusers and the original read it: a pipeline, or one model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from keras_makeavid.schedulers import NoiseSchedule
from weights_tools.autoencoder_config import diffusers_autoencoder_config
from weights_tools.component import Component
from weights_tools.config import diffusers_unet_config
from weights_tools.copying import bytes_to_write, write_file
from weights_tools.kinds import MODELS
from weights_tools.layouts import LAYOUTS, Layout, get_layout
from weights_tools.source import Source
from weights_tools.targets.checks import check_holds
from weights_tools.text_encoder_config import transformers_config

_FILES = {
    ("unet", "safetensors"): "diffusion_pytorch_model.safetensors",
    ("unet", "flax_msgpack"): "diffusion_flax_model.msgpack",
    ("vae", "safetensors"): "diffusion_pytorch_model.safetensors",
    ("text_encoder", "safetensors"): "model.safetensors",
}

# Entries that diffusers' pipelines ask for in the index of their parts.
_PIPELINE = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}


class HubFolderWriter:
    """Writes a source as a folder of diffusers: a pipeline, or one model alone.

    Args:
        source: the models. The UNet is written in `layout`; VAE and text encoder,
            which the video layouts do not have, as diffusers has them.
        layout: `"diffusers"`, `"makeavid_torch"` or `"makeavid_flax"`.
        dtype: dtype of the weights; `None` keeps each tensor's.

    Raises:
        ValueError: if the layout does not hold the source.
    """

    def __init__(self, source: Source, layout: str, dtype: str | None):
        self._source = source
        self._dtype = dtype
        self._parts = {
            part: (component, _layout_for(component, layout))
            for part, component in source.components.items()
            if part in MODELS
        }
        jobs = [(*pair, None) for pair in self._parts.values()]
        self.total_bytes = bytes_to_write(jobs, dtype)

    @property
    def layouts(self) -> dict[str, Layout]:
        """The layout of each part."""
        return {part: layout for part, (_, layout) in self._parts.items()}

    def write(self, folder: Path, on_bytes: Callable[[int], object]) -> None:
        """Write everything into a folder.

        Args:
            folder: an empty folder.
            on_bytes: called with the number of bytes written since the last call.
        """
        if len(self._parts) == 1:
            [(component, layout)] = self._parts.values()
            self._write_model(folder, component, layout, on_bytes)
            return
        for part, (component, layout) in self._parts.items():
            (folder / part).mkdir()
            self._write_model(folder / part, component, layout, on_bytes)
        if self._source.preprocessor is not None:
            _write_tokenizer(folder / "tokenizer", self._source.preprocessor)
        schedule = self._source.schedule or NoiseSchedule()
        (folder / "scheduler").mkdir()
        _write_json(
            folder / "scheduler" / "scheduler_config.json", _scheduler(schedule)
        )
        _write_json(folder / "model_index.json", self._index())

    def _write_model(self, folder, component, layout, on_bytes):
        config = _config(component, layout)
        if component.kind == "unet":
            config |= self._sample_size()
        _write_json(folder / "config.json", config)
        name = _FILES[component.kind, layout.container]
        # PyTorch's loaders ask a safetensors file what wrote it.
        metadata = {"format": "pt"} if layout.container == "safetensors" else None
        job = [(component, layout, None)]
        write_file(folder / name, job, self._dtype, on_bytes, metadata)

    def _sample_size(self):
        """The task's default size, where diffusers' pipelines look for it."""
        vae = self._source.components.get("vae")
        if vae is None or not {"height", "width"} <= self._source.defaults.keys():
            return {}
        factor = 2 ** (len(vae.arguments["block_channels"]) - 1)
        sides = [self._source.defaults[side] // factor for side in ("height", "width")]
        return {"sample_size": sides[0] if sides[0] == sides[1] else sides}

    def _index(self):
        config = _config(*self._parts["unet"]) if "unet" in self._parts else {}
        inpainting = config.get("in_channels") != config.get("out_channels")
        video = "Pseudo3D" in config.get("_class_name", "")
        library = "makeavid_sd" if video else "diffusers"
        return {
            "_class_name": f"StableDiffusion{'Inpaint' if inpainting else ''}Pipeline",
            **_PIPELINE,
            "unet": [library, config.get("_class_name")],
        }


def _layout_for(component: Component, name: str) -> Layout:
    names = {layout.name for layout in LAYOUTS if layout.kind == component.kind}
    layout = get_layout(component.kind, name if name in names else "diffusers")
    check_holds(component, layout)
    return layout


def _config(component: Component, layout: Layout):
    if component.kind == "unet":
        video = layout.absent is None
        return diffusers_unet_config(component.arguments, video)
    if component.kind == "vae":
        return diffusers_autoencoder_config(component.arguments)
    return transformers_config(component.arguments)


def _scheduler(schedule: NoiseSchedule):
    return {
        "_class_name": "DDIMScheduler",
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.beta_schedule,
        "num_train_timesteps": schedule.num_train_steps,
        "prediction_type": schedule.prediction_type,
        "rescale_betas_zero_snr": schedule.zero_terminal_snr,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def _write_tokenizer(folder: Path, preprocessor) -> None:
    folder.mkdir()
    preprocessor.save_assets(str(folder))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": preprocessor.sequence_length,
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
            "pad_token": preprocessor.pad_token,
        },
    )


def _write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
