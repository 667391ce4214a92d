"""Exports a task's parts to runtimes that need no Keras, and a script that runs them.

The script is `run.py` beside the parts: NumPy, `tokenizers` and the runtime alone.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from tokenizers.processors import TemplateProcessing

from keras_makeavid.files import StrPath, folder_written_aside
from keras_makeavid.schedulers import get_scheduler
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.text.vocabulary import END_TOKEN, START_TOKEN
from keras_makeavid.validation import check_choice, refusal

__all__ = ["FORMATS", "export"]

_SETTINGS = "settings.json"
_MOST_STEPS = 50
# An axis of any size, by its name, or a number.
Axes = tuple[int | str, ...]


class Format(NamedTuple):
    """What a format needs and can."""

    write: Callable[..., None]
    backend: str  # Of Keras, under which it is written.
    precisions: tuple[str, ...]  # Of its weights.
    any_size: bool = True  # Else the frames, height and width of the preset alone.


class Part(NamedTuple):
    """A function of tensors that is exported; its inputs are float32, or token ids."""

    function: Callable[..., Any]
    layer: Any
    inputs: dict[str, Axes]


def export(
    preset: StrPath,
    folder: StrPath,
    format: str,
    *,
    precision: str = "float32",
    scheduler: str | None = None,
) -> None:
    """Write what makes videos of prompts without Keras: parts, tokenizer, `run.py`.

    Args:
        preset: As for `TextToVideo.from_preset`.
        folder: Folder to write. An export that is there is replaced.
        format: A key of `FORMATS`, which says the backend that it is written under.
        precision: Of the weights: `"float32"`, or what else the format has.
        scheduler: The sampler of `run.py`, one that draws no noise in its steps;
            `None` is the preset's own.

    Raises:
        ValueError: If the backend is another, or the format cannot do what is asked.

    Example:
    ```python
    export("makeavid_motions_small", "exported", "onnx")
    ```
    """
    check_choice("format", format, FORMATS)
    kind = FORMATS[format]
    check_choice(f"precision of {format}", precision, kind.precisions)
    check_choice(f"KERAS_BACKEND for {format}", keras.config.backend(), [kind.backend])
    task = TextToVideo.from_preset(preset, dtype="float32")
    if task.few_steps_file is not None:
        print("The preset's adapter for few steps is left out.")
    tables, parts = _step_tables(task, scheduler or task.scheduler), _parts(task)
    script = Path(__file__).with_name("run.py.in").read_text()
    # Of the runtimes that it knows, it has the lines of one.
    [mine] = re.findall(rf"^#\| {format}\n(.*?)^#\|", script, re.S | re.M)
    script = re.sub(r"^#\|.*^#\|\n", lambda _: mine, script, flags=re.S | re.M)
    with folder_written_aside(folder, replaces=_SETTINGS) as aside:
        for name, part in parts.items():
            kind.write(part, aside / name, task, precision)
        np.savez(aside / "steps.npz", **tables)
        _write_tokenizer(task.preprocessor, aside / "tokenizer.json")
        settings = _settings(task, kind.any_size)
        settings["inputs"] = {name: list(part.inputs) for name, part in parts.items()}
        (aside / _SETTINGS).write_text(json.dumps(settings, indent=1))
        (aside / "run.py").write_text(script)


def _parts(task: TextToVideo) -> dict[str, Part]:
    unet, vae = task.backbone, task.vae
    length, channels = task.preprocessor.sequence_length, vae.latent_channels
    latents = ("rows", "columns")

    def unet_of(model, *leading):
        def run(sample, timesteps, context):
            inputs = {"sample": sample, "timesteps": timesteps, "context": context}
            return model(inputs)

        # The negative prompt first, then the prompt.
        taken: dict[str, Axes] = {
            "sample": (2, *leading, *latents, model.in_channels),
            "timesteps": (2,),
            "context": (2, length, model.context_dim),
        }
        return Part(run, model, taken)

    def encode(token_ids):
        return task.text_encoder({"token_ids": token_ids})

    decoded: dict[str, Axes] = {"latents": ("images", *latents, channels)}
    parts = {
        "text_encoder": Part(encode, task.text_encoder, {"token_ids": (2, length)}),
        "unet": unet_of(unet, "frames"),
        "vae_decoder": Part(vae.decode, vae, decoded),
    }
    if task._makes_first_frame():
        pixels = ("images", "pixel rows", "pixel columns", vae.in_channels)
        parts["image_unet"] = unet_of(task.image_backbone or unet)
        parts["vae_encoder"] = Part(vae.encode, vae, {"images": pixels})
    return parts


def _settings(task, any_size: bool) -> dict[str, Any]:
    """What `run.py` has to know."""
    first_frame = task._makes_first_frame()
    defaults = {"negative": "", "seed": 0, "steps": task.num_steps}
    defaults |= {"guidance": float(task.guidance_scale)}
    size = {"frames": task.num_frames, "height": task.height, "width": task.width}
    return {
        "defaults": defaults | size if any_size else defaults,
        "fixed": {} if any_size else size,
        "step": task._size_factor(),
        "pixels": task.vae.downsampling_factor,
        "channels": task.vae.latent_channels,
        "given": 2 if task._takes_hint() else 0,  # Mask and hint, or neither.
        "first_frame": first_frame,
        "kept": int(first_frame and task._given_frames.masked),
        "fps": task.fps,
    }


def _step_tables(task: TextToVideo, name: str) -> dict[str, Any]:
    """The rows of `StepTable`, and the first noise's factor, by the number of steps."""
    scheduler, tables = get_scheduler(name, task.schedule), {}
    most = max(_MOST_STEPS, task.num_steps)
    for steps in range(1, min(most, scheduler._most_steps()) + 1):
        table = scheduler.table(steps)
        if table.needs_noise:
            expected = "scheduler must be one that draws no noise in its steps"
            raise refusal(f"{expected}, such as 'dpm++2m'", name)
        rows = table.as_array()
        sigma = np.full_like(rows[:, :1], table.initial_sigma)
        tables[str(steps)] = np.concatenate([rows, sigma], axis=1)
    return tables


def _write_tokenizer(preprocessor, path: Path) -> None:
    vocabulary, pad = preprocessor._loaded_vocabulary(), preprocessor.pad_token
    if vocabulary.vectors:
        problem = "run.py reads tokens of one vector"
        raise ValueError(f"{problem}. Received: a vocabulary with tokens of several")
    ids, length = vocabulary.tokens, preprocessor.sequence_length
    tokenizer = vocabulary.tokenizer(pad)
    ends = [(token, ids[token]) for token in (START_TOKEN, END_TOKEN)]
    row = f"{START_TOKEN} $A {END_TOKEN}"
    tokenizer.post_processor = TemplateProcessing(row, special_tokens=ends)
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(pad_id=ids[pad], pad_token=pad, length=length)
    tokenizer.save(str(path))


def _dtype_of(name: str) -> str:
    return "int32" if name == "token_ids" else "float32"


def _write_onnx(part: Part, stem: Path, task, precision: str) -> None:
    import onnx

    path = stem.with_suffix(".onnx")
    # One file holds 2 GB at most: weights have their own.
    weights = path.with_name(f"{path.name}.data")
    with tempfile.TemporaryDirectory(dir=stem.parent) as folder:
        traced = Path(folder, path.name)
        _trace(part, traced, task)
        if precision == "int8":
            from onnxruntime.quantization import quantize_dynamic

            # Convolutions of integers are slower than those of floats in this runtime.
            kinds = ["MatMul", "Gemm", "Gather"]
            how = {"op_types_to_quantize": kinds, "use_external_data_format": True}
            quantize_dynamic(traced, path, **how)
        else:
            if precision == "float16":
                from onnxruntime.transformers.float16 import convert_float_to_float16

                model = convert_float_to_float16(str(traced), keep_io_types=True)
            else:
                model = onnx.load(traced)
            onnx.save(model, path, save_as_external_data=True, location=weights.name)
    if weights.exists():
        shutil.copymode(path, weights)  # Else they are its writer's alone.


def _sizes(axes: Axes, task, frames: int, height: int, width: int) -> tuple[int, ...]:
    rows, columns, _ = task._latent_shape(height, width)
    factor = task.vae.downsampling_factor
    known = {"frames": frames, "images": 1, "rows": rows, "columns": columns}
    known |= {"pixel rows": rows * factor, "pixel columns": columns * factor}
    return tuple(known[axis] if isinstance(axis, str) else axis for axis in axes)


def _trace(part: Part, path: Path, task) -> None:
    """Write the ONNX of a part; Keras's own knows no open sizes of inputs by name."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            # What it has not is a constant of a node, not a weight.
            values = [variable.value for variable in part.layer.variables]
            self.weights = torch.nn.ParameterList(values)

        def forward(self, *tensors):
            return part.function(*tensors)

    # The tracer takes weights that train for constants that it may not have.
    for variable in part.layer.variables:
        variable.value.requires_grad_(False)
    # What is traced is computed, and serves all sizes.
    side = 2 * task._size_factor()
    small = min(task.num_frames, 3), min(task.height, side), min(task.width, side)
    examples, open_axes = [], dict[str, Any]()
    for name, axes in part.inputs.items():
        sizes = _sizes(axes, task, *small)
        examples.append(torch.ones(sizes, dtype=getattr(torch, _dtype_of(name))))
        named = {i: axis for i, axis in enumerate(axes) if isinstance(axis, str)}
        open_axes |= {name: named} if named else {}
    with warnings.catch_warnings(), torch.no_grad():
        # That the tracer is old, and of sizes read in Python, all of them fixed.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            # As it trains: else equal weights are made one, in a graph out of order.
            Module(),
            tuple(examples),
            str(path),
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            opset_version=18,
            input_names=list(part.inputs),
            output_names=["output"],
            dynamic_axes=open_axes,
        )


def _write_openvino(part: Part, stem: Path, task, precision: str) -> None:
    import openvino

    with tempfile.TemporaryDirectory(dir=stem.parent) as folder:
        traced = "int8" if precision == "int8" else "float32"
        _write_onnx(part, Path(folder, "part"), task, traced)
        # The same as `convert_model`, which tells its makers of each operation.
        model = openvino.Core().read_model(Path(folder, "part.onnx"))
        half = precision == "float16"
        openvino.save_model(model, stem.with_suffix(".xml"), compress_to_fp16=half)


def _write_saved_model(part: Part, path: Path, task, precision: str) -> None:
    opened = {
        name: tuple(None if isinstance(axis, str) else axis for axis in axes)
        for name, axes in part.inputs.items()
    }
    _archive(part, path, opened)


def _write_litert(part: Part, stem: Path, task, precision: str) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory(dir=stem.parent) as folder:
        # With open sizes its converter did not end within minutes.
        own = task.num_frames, task.height, task.width
        inputs = part.inputs.items()
        shapes = {name: _sizes(axes, task, *own) for name, axes in inputs}
        _archive(part, Path(folder, "part"), shapes)
        model = str(Path(folder, "part"))
        converter = tf.lite.TFLiteConverter.from_saved_model(model, ["serve"])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        stem.with_suffix(".tflite").write_bytes(converter.convert())


def _archive(part: Part, path: StrPath, shapes: dict[str, tuple]) -> None:
    signature = [
        keras.InputSpec(_dtype_of(name), shape, name=name)
        for name, shape in shapes.items()
    ]
    archive = keras.export.ExportArchive()
    archive.track(part.layer)
    archive.add_endpoint("serve", part.function, signature)
    archive.write_out(str(path), verbose=False)


_ALL = ("float32", "float16", "int8")
FORMATS = {
    "onnx": Format(_write_onnx, "torch", _ALL),
    "openvino": Format(_write_openvino, "torch", _ALL),
    "saved_model": Format(_write_saved_model, "tensorflow", ("float32",)),
    "litert": Format(_write_litert, "tensorflow", _ALL, any_size=False),
}
