"""Save a checkpoint in a layout: planned first, then written one tensor at a time."""

import datetime
import functools
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from keras_makeavid.files import folder_written_aside
from keras_makeavid.json_files import write_json
from keras_makeavid.models.parts import TASK_DEFAULTS, check_parts
from keras_makeavid.progress import step_progress
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.schedulers.noise_schedule import DIFFUSERS_KEYS
from keras_makeavid.text import TextToVideoPreprocessor, openai_clip_vocabulary
from weights_tools import kerascv
from weights_tools.architectures import KINDS, MODELS, weightless_model
from weights_tools.checkpoint import (
    METADATA,
    MOTION,
    TASK_FILE,
    TASK_PARTS,
    TASK_WEIGHTS_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    Component,
    all_finite,
)
from weights_tools.configs import adapter_config, their_config
from weights_tools.formats import TensorSpec, create_tensors
from weights_tools.layouts import LAYOUTS, Layout

DTYPES = ("float32", "float16", "bfloat16")

# While one thread waits for the disk, the other turns; more would take more memory.
_THREADS = 2

# Which of Keras's two formats a file is read as, it tells by this.
_KERAS_SUFFIX = ".weights.h5"

# As diffusers names files of weights; transformers has another name.
_HUB_FILES = {
    "safetensors": "diffusion_pytorch_model.safetensors",
    "flax_msgpack": "diffusion_flax_model.msgpack",
}
_TEXT_FILE = "model.safetensors"

# Entries that diffusers' pipelines ask for in the index of their parts.
_PIPELINE = {
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "vae": ["diffusers", "AutoencoderKL"],
    "feature_extractor": [None, None],
}

# What diffusers and single files have, and of which layouts it is the modules alone.
_PARTS = (*KINDS, MOTION)
# Whose folders ours are like. It does not load an inpainting pipeline that has none.
_DIFFUSERS_VERSION = "0.42.1"
_OF_MODULES = ("animatediff", "diffusers_adapter")

# PyTorch's loaders ask a safetensors file what wrote it.
_OF_PYTORCH = {"format": "pt"}


@dataclass(frozen=True)
class _File:
    """One file of weights, at its place in the folder."""

    name: str
    # Models, their layouts (of one container), and roots of names, else the layout's.
    parts: Sequence[tuple[Component, Layout, str | None]]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def tensors(self) -> dict[str, tuple[Component, Layout, str]]:
        """For each tensor by name the model, the layout and the path of our weight."""
        return {
            layout.tensor_name(path, root): (component, layout, path)
            for component, layout, root in self.parts
            for path in component.weights.specs
            if layout.holds(path)
        }

    def specs(self, dtype: str | None) -> dict[str, TensorSpec]:
        specs = {}
        for name, (component, layout, path) in self.tensors.items():
            shape, own = component.weights.specs[path]
            specs[name] = TensorSpec(layout.shape(path, shape), dtype or own)
        return specs


@dataclass(frozen=True)
class _Plan:
    """What is to be written: files of weights, and others in JSON by their place."""

    layouts: dict[str, Layout]
    files: Sequence[_File]
    others: Mapping[str, Any] = field(default_factory=dict)
    write_tokenizer: Callable[[str], object] = lambda folder: None


def save(
    checkpoint: Checkpoint,
    out: Path,
    layout: str,
    *,
    to_file: bool,
    dtype: str | None = None,
    progress: bool | Callable[[int, int], None] = False,
) -> tuple[dict[str, Layout], int]:
    """Write a checkpoint whole or not at all; return the parts' layouts, and bytes."""
    if layout in _OF_MODULES:
        parts = {"unet", MOTION} & checkpoint.components.keys()
        taken = {part: checkpoint.components[part] for part in parts}
        if not taken:
            raise ValueError(f"{sorted(checkpoint.components)} hold no motion modules")
        checkpoint = replace(checkpoint, components=taken)
    if layout == "kerascv":
        plan = _plan_kerascv(checkpoint, out.name if to_file else None)
    elif to_file:
        plan = _plan_file(checkpoint, layout)
    elif layout == "keras":
        plan = _plan_preset(checkpoint)
    else:
        plan = _plan_hub_folder(checkpoint, layout)
    specs = [file.specs(dtype) for file in plan.files]
    total = sum(spec.nbytes for named in specs for spec in named.values())
    done = 0
    with step_progress(progress, total, "write", "B", unit_scale=True) as report:

        def on_bytes(number: int) -> None:
            nonlocal done
            done += number
            if report is not None:
                report(done)

        if to_file:
            _write_file(out, plan.files[0], dtype, on_bytes)
            return plan.layouts, total
        with folder_written_aside(out) as folder:
            for place in (*plan.others, *(file.name for file in plan.files)):
                (folder / place).parent.mkdir(exist_ok=True)
            for place, value in plan.others.items():
                write_json(folder / place, value, indent=4)
            plan.write_tokenizer(str(folder))
            for file in plan.files:
                _write_file(folder / file.name, file, dtype, on_bytes)
    return plan.layouts, total


def _write_file(path: Path, file: _File, dtype, on_bytes) -> None:
    specs = file.specs(dtype)
    container = file.parts[0][1].container

    def copy(name):
        component, layout, path = file.tensors[name]
        value = _as_dtype(component.weights.read(path), specs[name].dtype, name)
        writer.write(name, layout.to_layout(path, value))
        return specs[name].nbytes

    with (
        create_tensors(path, specs, container, file.metadata) as writer,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        for nbytes in pool.map(copy, specs):
            on_bytes(nbytes)


def _as_dtype(value: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Cast a tensor, which must not overflow."""
    if value.dtype.name == dtype:
        return value
    with np.errstate(over="ignore"):
        cast = value.astype(TensorSpec((), dtype).numpy_dtype)
    if not all_finite(cast):
        largest = np.abs(value).max()
        raise ValueError(f"{name} has values beyond {dtype}: up to {largest:.4g}")
    return cast


def _plan_file(checkpoint: Checkpoint, layout: str) -> _Plan:
    """One file of weights, of one model or of a whole checkpoint of LDM."""
    components = [c for part, c in checkpoint.components.items() if part in _PARTS]
    if layout != "ldm" and len(components) > 1:
        raise ValueError(
            f"A file in layout {layout!r} holds one model: write a folder, or name "
            f"the part. Received: {sorted(checkpoint.components)}"
        )
    layouts = {c.part: c.require_layout(layout) for c in components}
    container = layouts[components[0].part].container
    arguments = {component.kind: component.arguments for component in components}
    metadata = {METADATA: json.dumps(arguments)}
    if container == "safetensors":
        metadata |= _OF_PYTORCH
    elif container == "flax_msgpack":
        metadata = {}
    parts = [(c, layouts[c.part], None) for c in components]
    return _Plan(layouts, [_File("", parts, metadata)])


def _plan_kerascv(checkpoint: Checkpoint, file_name: str | None) -> _Plan:
    """Files that KerasCV's classes load by `load_weights`, or the one of them."""
    # A task's second UNet has no place, but may be converted by itself.
    parts = checkpoint.components.keys() & MODELS.keys() or checkpoint.components.keys()
    fitted = {part: kerascv.fitted(checkpoint.components[part]) for part in parts}
    files = kerascv.files_of(fitted)
    if file_name is not None and not file_name.endswith(_KERAS_SUFFIX):
        raise ValueError(
            f"The name of a file for KerasCV must end in {_KERAS_SUFFIX}, by which "
            f"Keras tells its formats apart. Received: {file_name!r}"
        )
    if file_name is not None and len(files) != 1:
        problem = f"{sorted(files)} do not fit into one file"
        raise ValueError(f"{problem}: name a folder, or the part")
    return _Plan(
        {
            part: kerascv.KERASCV_KINDS[component.kind]
            for part, component in fitted.items()
        },
        [_File(name, [(*file, None)]) for name, file in files.items()],
    )


def _plan_preset(checkpoint: Checkpoint) -> _Plan:
    """A KerasHub preset of ours: a whole task if the checkpoint has all of one."""
    components = checkpoint.components
    is_task = MODELS.keys() <= components.keys()
    if not is_task and len(components) != 1:
        expected = f"A preset holds one model, or {sorted(MODELS)} for a task"
        raise ValueError(f"{expected}. Received: {sorted(components)}")
    layouts = {part: c.require_layout("keras") for part, c in components.items()}
    main = "unet" if is_task else next(iter(components))
    backbone = components[main]
    model = weightless_model(backbone.kind, backbone.arguments)
    others: dict[str, Any] = {}
    files = []
    write_tokenizer = _Plan.write_tokenizer
    if is_task:
        preprocessor = checkpoint.preprocessor or _clip_preprocessor(checkpoint)
        _check_tokenizer(preprocessor, components["text_encoder"])
        others[TASK_FILE] = _task_config(checkpoint, preprocessor)
        roots = {part: place for place, part in TASK_PARTS.items()}
        parts = [
            (components[part], layouts[part], f"{place}/{layouts[part].roots[0]}")
            for part, place in roots.items()
            if part in components
        ]
        files = [_File(TASK_WEIGHTS_FILE, parts)]
        write_tokenizer = preprocessor.save_to_preset
    others["config.json"] = _serialized(model)
    others["metadata.json"] = {
        "keras_version": keras.version(),
        "keras_hub_version": keras_hub.version(),
        "parameter_count": sum(map(math.prod, backbone.shapes.values())),
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
        "tasks": ["TextToVideo"] if backbone.kind == "unet" else [],
    }
    layout = layouts[main]
    files.append(_File(WEIGHTS_FILE, [(backbone, layout, None)]))
    return _Plan(layouts, files, others, write_tokenizer)


def _task_config(checkpoint: Checkpoint, preprocessor) -> dict[str, Any]:
    """What Keras makes a `TextToVideo` of again, named as it imports this package."""
    models = {
        place: weightless_model(component.kind, component.arguments)
        for place, part in (("backbone", "unet"), *TASK_PARTS.items())
        if (component := checkpoint.components.get(part)) is not None
    }
    check_parts(**models)
    parts = {place: _serialized(model) for place, model in models.items()}
    return {
        "module": "keras_makeavid.tasks.text_to_video",
        "class_name": "TextToVideo",
        # In the order in which the task itself writes them.
        "config": {
            "backbone": parts["backbone"],
            "preprocessor": _serialized(preprocessor),
            "name": "text_to_video",
            **{place: parts.get(place) for place in TASK_PARTS},
            "schedule": (checkpoint.schedule or NoiseSchedule()).get_config(),
            **TASK_DEFAULTS,
            **checkpoint.defaults,
        },
        "registered_name": "keras_makeavid>TextToVideo",
    }


def _check_tokenizer(preprocessor, text_encoder):
    most = text_encoder.arguments["max_sequence_length"]
    if preprocessor.sequence_length > most:
        raise ValueError(
            f"The text encoder takes at most {most} tokens. Received: a tokenizer of "
            f"model_max_length {preprocessor.sequence_length}"
        )
    known, tokens = text_encoder.arguments["vocabulary_size"], preprocessor.vocabulary
    if len(tokens) > known:
        raise ValueError(
            f"The text encoder knows {known} tokens. Received: a tokenizer of "
            f"{len(tokens)}, with {list(tokens)[known:][:3]} among the others"
        )
    if len(tokens) < known:
        warnings.warn(
            f"The text encoder knows {known} tokens, and the tokenizer {len(tokens)}: "
            f"no prompt reaches the last {known - len(tokens)}. If tokens were added, "
            "their tokenizer is missing.",
            stacklevel=2,
        )


def _clip_preprocessor(checkpoint):
    size = checkpoint.components["text_encoder"].arguments["vocabulary_size"]
    tokens, merges = openai_clip_vocabulary()
    if size != len(tokens):
        raise ValueError(
            f"The source has no tokenizer, and its text encoder of {size} tokens is "
            f"not for CLIP's own, which has {len(tokens)}: name its pipeline as base"
        )
    return TextToVideoPreprocessor(tokens, merges)


def _serialized(layer):
    return _without_states(keras.saving.serialize_keras_object(layer))


def _without_states(config):
    """A configuration without what Keras adds of a built or compiled model."""
    if not isinstance(config, dict):
        return config
    states = ("compile_config", "build_config")
    return {k: _without_states(v) for k, v in config.items() if k not in states}


def _plan_hub_folder(checkpoint: Checkpoint, layout: str) -> _Plan:
    """A folder of the layout; parts that it does not have are as in diffusers."""
    models = {p: c for p, c in checkpoint.components.items() if p in _PARTS}
    known = {(each.kind, each.name) for each in LAYOUTS}
    layouts = {
        part: c.require_layout(layout if (c.kind, layout) in known else "diffusers")
        for part, c in models.items()
    }
    alone = len(models) == 1
    files, others = [], {}
    write_tokenizer = _Plan.write_tokenizer
    for part, component in models.items():
        own, folder = layouts[part], "" if alone else f"{part}/"
        if layout in _OF_MODULES:
            config = adapter_config(component.arguments)
        else:
            # The layouts of image models hold nothing temporal.
            is_video = own.absent is None
            config = their_config(component.kind, component.arguments, is_video)
        if part == "unet" and not alone:
            config |= _sample_size(checkpoint)
        others[f"{folder}config.json"] = config
        is_text = component.kind == "text_encoder"
        name = _TEXT_FILE if is_text else _HUB_FILES[own.container]
        metadata = _OF_PYTORCH if own.container == "safetensors" else {}
        files.append(_File(folder + name, [(component, own, None)], metadata))
    if not alone:
        others["scheduler/scheduler_config.json"] = _ddim_config(checkpoint.schedule)
        others["model_index.json"] = _index(others.get("unet/config.json", {}))
        if (preprocessor := checkpoint.preprocessor) is not None:

            def write_tokenizer(folder: str) -> None:
                preprocessor.save_hub_folder(f"{folder}/tokenizer")

    return _Plan(layouts, files, others, write_tokenizer)


def _ddim_config(schedule: NoiseSchedule | None) -> dict[str, Any]:
    """The file of diffusers' `DDIMScheduler`, as Stable Diffusion has it."""
    schedule = schedule or NoiseSchedule()
    return {
        "_class_name": "DDIMScheduler",
        **{key: getattr(schedule, name) for key, name in DIFFUSERS_KEYS.items()},
        **{"timestep_spacing": "leading", "steps_offset": 1},
        **{"set_alpha_to_one": False, "clip_sample": False},
    }


def _sample_size(checkpoint: Checkpoint) -> dict[str, Any]:
    """The task's default size, where diffusers' pipelines look for it."""
    vae = checkpoint.components.get("vae")
    if vae is None or not {"height", "width"} <= checkpoint.defaults.keys():
        return {}
    factor = 2 ** (len(vae.arguments["block_channels"]) - 1)
    sides = [checkpoint.defaults[side] // factor for side in ("height", "width")]
    return {"sample_size": sides[0] if sides[0] == sides[1] else sides}


def _index(unet: Mapping[str, Any]) -> dict[str, Any]:
    name = unet.get("_class_name", "")
    inpainting = unet.get("in_channels") != unet.get("out_channels")
    pipeline = f"StableDiffusion{'Inpaint' if inpainting else ''}Pipeline"
    further = {"safety_checker": [None, None], "requires_safety_checker": False}
    if name == "UNetMotionModel":
        pipeline = "AnimateDiffPipeline"
        further = dict.fromkeys(("motion_adapter", "image_encoder"), [None, None])
    return {
        "_class_name": pipeline,
        "_diffusers_version": _DIFFUSERS_VERSION,
        **_PIPELINE,
        **further,
        "unet": ["makeavid_sd" if "Pseudo3D" in name else "diffusers", name or None],
    }
