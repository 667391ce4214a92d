"""Open what weights come from: files, folders, hub repositories and live models."""

import itertools
import math
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from keras_makeavid import presets
from keras_makeavid.files import StrPath, problem_of
from keras_makeavid.json_files import parse_json
from keras_makeavid.models.parts import SIZE_STEP, TASK_DEFAULTS
from keras_makeavid.models.unet_pseudo3d import MOTION_MODULES
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.text import TextToVideoPreprocessor
from weights_tools import kerascv
from weights_tools.architectures import KINDS, MODELS, complete, infer_arguments
from weights_tools.checkpoint import (
    METADATA,
    MOTION,
    TASK_FILE,
    TASK_PARTS,
    TASK_WEIGHTS_FILE,
    WEIGHTS_FILE,
    Checkpoint,
    Component,
    component_from_file,
    component_of_model,
)
from weights_tools.configs import (
    architecture,
    check_arguments,
    our_arguments,
    read_config,
    sides_of,
)
from weights_tools.formats import FormatError, TensorFile, open_tensors, reading
from weights_tools.layouts import LAYOUTS, Layout

# What the configurations in these repositories do not tell (see docs/model.md).
_KNOWN_ARGUMENTS = {
    "lxj616/make-a-stable-diffusion-video-timelapse": {
        "gelu": "exact",
        "transformer_epsilon": 1e-6,
    }
}

# The variant that asks for the running mean of a UNet.
_MEAN = "ema"
_NO_MEAN = "has no running mean of its weights, model_ema.* in a checkpoint of LDM"

# What a task with AnimateDiff's motion modules does unless the source tells otherwise.
ANIMATEDIFF_SCHEDULE = NoiseSchedule(beta_schedule="linear")
ANIMATEDIFF_DEFAULTS = {"num_frames": 16, "guidance_scale": 7.5}
# Arguments of new modules in the published forms.
MOTION_VERSIONS: dict[Any, dict[str, Any]] = {
    "v1": {"motion_positions": 24, "residual_norm_over_frames": True},
    "v2": {"motion_mid_block": True},
    "v3": {},
}

# The stems that the libraries use, and the formats from the safest on; Flax's last,
# which lies beside PyTorch's where a model was converted to it.
_STEM = r"(?:diffusion_pytorch_model|diffusion_flax_model|model|pytorch_model)"
_FORMATS = ("safetensors", "bin", "msgpack")
# transformers and diffusers put the variant in different places of index names.
_WEIGHTS_NAME = re.compile(
    rf"{_STEM}(?:\.(\w+))?\.({'|'.join(_FORMATS)})"
    r"(\.index(?:\.(\w+))?\.json|\.(\w+)\.index\.json)?"
)


@contextmanager
def open_source(
    source: StrPath | keras.Model | Sequence[keras.Model],
    variant: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Iterator[Checkpoint]:
    """Open what weights come from as a `Checkpoint`; no tensor is read yet.

    Args:
        source: Path of a file or folder, a preset of the package,
            `hf://owner/name[@revision]`, or a live model: one of ours, a
            `TextToVideo`, or one of KerasCV's; several of KerasCV's in a list.
        variant: `"fp16"` prefers files of this variant in a diffusers folder; `"ema"`
            takes the running mean, `model_ema.*` in a checkpoint of LDM.
        overrides: Arguments of `UNetPseudo3D` that are known better than the source
            tells, such as `{"transformer_epsilon": 1e-6}`.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is damaged or no model that we know; the text says what is there.

    Example:
    ```python
    with open_source("stable-diffusion-inpainting") as checkpoint:
        checkpoint.component("unet").arguments["in_channels"]  # 9
    ```
    """
    if not isinstance(source, str | os.PathLike):
        many = isinstance(source, list | tuple)
        yield kerascv.open_models(source) if many else _open_model(source)
        return
    name = os.fspath(source)
    known, origin = {}, {}
    if name.startswith(presets.HUB_PREFIX):
        origin["base_model"], _ = presets.repository_of(name)
        known = _KNOWN_ARGUMENTS.get(origin["base_model"], {})
        path = download(name, variant)
    else:
        path = Path(presets.preset_folder(name))
    with ExitStack() as stack:
        told = {**known, **(overrides or {})}
        checkpoint = _as_animatediff(_open_path(path, stack, told, variant))
        origin = checkpoint.defaults.get("origin", {}) | origin | _licence(path)
        yield replace(checkpoint, defaults={**checkpoint.defaults, "origin": origin})


def _licence(folder: Path) -> dict[str, str]:
    """The licence that the card of a repository names, if there is a card."""
    card = folder / "README.md"
    if not card.is_file():
        return {}
    with card.open(encoding="utf-8", errors="replace") as file:
        head = file.read(2**16).split("\n---")[0]
    # A licence that the hub does not know is "other", and has a name.
    licence = r"^license(?:_name)?: *['\"]?(?!other\b)([\w.+-]+)"
    found = re.search(licence, head, re.MULTILINE)
    return {"license": found[1]} if found else {}


def _as_animatediff(checkpoint: Checkpoint) -> Checkpoint:
    """Tell what files of AnimateDiff leave out, if it has motion modules."""
    for part in {"unet", MOTION} & checkpoint.components.keys():
        if checkpoint.components[part].arguments["temporal"] == MOTION_MODULES:
            checkpoint.schedule = checkpoint.schedule or ANIMATEDIFF_SCHEDULE
            checkpoint.defaults = {**ANIMATEDIFF_DEFAULTS, **checkpoint.defaults}
    return checkpoint


def _open_path(path, stack, overrides, variant) -> Checkpoint:
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}")
    if path.is_file() and path.suffix != ".keras":
        return _open_file(path, stack, overrides, variant)
    only_file = None if path.is_file() else _only_file(path)
    if only_file is not None and not kerascv.files_in(path):
        return _open_file(only_file, stack, overrides, variant)
    if variant == _MEAN:
        raise FormatError(path, _NO_MEAN)
    if path.is_file():
        return _open_archive(path, stack, overrides)
    if presets.is_preset(path):
        return _open_preset(path, stack, overrides)
    files = kerascv.files_in(path)
    if files:
        opened = [stack.enter_context(open_tensors(file)) for file in files]
        return kerascv.open_files(opened, overrides)
    return _open_pipeline(path, stack, overrides, variant)


def _open_model(model: keras.Model) -> Checkpoint:
    if kerascv.is_kerascv_model(model):
        return kerascv.open_models([model])
    # Of a `TextToVideo`.
    if not isinstance(getattr(model, "backbone", None), MODELS["unet"]):
        component = component_of_model(model)
        return Checkpoint({component.kind: component})
    parts = {"unet": model.backbone, "vae": model.vae}
    parts |= {"text_encoder": model.text_encoder, "image_unet": model.image_backbone}
    return Checkpoint(
        {part: component_of_model(m) for part, m in parts.items() if m is not None},
        model.preprocessor,
        model.schedule,
        {name: getattr(model, name) for name in TASK_DEFAULTS},
    )


def _open_preset(folder, stack, overrides) -> Checkpoint:
    """Open a preset folder of ours: a whole task, or one model."""
    file = stack.enter_context(open_tensors(folder / WEIGHTS_FILE))
    component = _keras_component(file, folder / "config.json", overrides)
    checkpoint = Checkpoint({component.kind: component})
    if (folder / TASK_FILE).is_file():
        _open_task(folder, stack, checkpoint)
    if (folder / presets.FEW_STEPS_FILE).is_file():
        checkpoint.left_out = (f"{presets.FEW_STEPS_FILE}: an adapter of the preset",)
    return checkpoint


def _open_task(folder, stack, checkpoint):
    path = folder / TASK_FILE
    task = read_config(path).get("config")
    if not isinstance(task, dict):
        raise FormatError(path, "is no task's configuration")
    file = stack.enter_context(open_tensors(folder / TASK_WEIGHTS_FILE))
    for layout, root in _layouts_in(file):
        part = root.split("/")[0]
        with reading(path):
            kind, arguments = _keras_arguments(task.get(part))
        if kind != layout.kind:
            raise FormatError(path, f"has a {kind} for its {part}")
        component = component_from_file(file, layout, root, arguments)
        checkpoint.components[TASK_PARTS[part]] = component
    with reading(folder / "preprocessor.json"):
        checkpoint.preprocessor = TextToVideoPreprocessor.from_preset(str(folder))
    if not isinstance(task.get("schedule"), dict):
        raise FormatError(path, "has no schedule")
    # Presets of the first version tell of the size only.
    checkpoint.defaults = {key: task[key] for key in TASK_DEFAULTS if key in task}
    with reading(path):
        checkpoint.schedule = NoiseSchedule.from_config(task["schedule"])
        check_arguments("task", checkpoint.defaults)


def _open_archive(path, stack, overrides) -> Checkpoint:
    """Open a `.keras` file; its weights are unpacked to a temporary folder."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    with reading(path):
        try:
            archive = stack.enter_context(zipfile.ZipFile(path))
        except zipfile.BadZipFile as error:
            raise FormatError(path, problem_of(path, error)) from error
        for name in ("config.json", WEIGHTS_FILE):
            found = archive.getinfo(name)
            if found.compress_type != zipfile.ZIP_STORED or found.header_offset < 0:
                raise ValueError(f"{name} in it must lie there as it is")
            with archive.open(name) as member, (folder / name).open("wb") as file:
                shutil.copyfileobj(member, file)
    try:
        file = stack.enter_context(open_tensors(folder / WEIGHTS_FILE))
        component = _keras_component(file, folder / "config.json", overrides)
    except ValueError as error:
        # It names a file that is gone when it is read.
        raise FormatError(path, str(error)) from error
    weights = TensorFile(path, component.weights.specs, component.weights.read)
    return Checkpoint({component.kind: replace(component, weights=weights)})


def _keras_component(file: TensorFile, config: Path, overrides) -> Component:
    """The model of a file of Keras's, and of the `config.json` that Keras writes."""
    described = read_config(config)
    with reading(config):
        kind, arguments = _keras_arguments(described)
    layout, root = find_layout(file, kind, "keras")
    return component_from_file(file, layout, root, arguments, overrides)


def _keras_arguments(config: Any) -> tuple[str, dict[str, Any]]:
    name = config.get("class_name") if isinstance(config, dict) else None
    kinds = {model.__name__: kind for kind, model in KINDS.items()}
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None or not isinstance(config.get("config"), dict):
        expected = f"A configuration must be of one of {sorted(kinds)}"
        raise ValueError(f"{expected}. Received: {name!r}")
    return kind, complete(kind, architecture(config["config"]))


def _open_file(path, stack, overrides, variant) -> Checkpoint:
    """Open a file; a `config.json` beside the file of a single model is read too."""
    file = _unwrapped(stack.enter_context(open_tensors(path)))
    if kerascv.is_kerascv_file(file) and variant != _MEAN:
        return kerascv.open_files([file], overrides)
    # With none it raises the error that says what is in the file.
    found = _layouts_in(file) or [find_layout(file)]
    unets = {layout.name for layout, _ in found if layout.kind == "unet"}
    if variant == _MEAN and "ldm_ema" not in unets:
        raise FormatError(path, _NO_MEAN)
    if {"ldm", "ldm_ema"} <= unets:
        other = "ldm" if variant == _MEAN else "ldm_ema"
        found = [(x, root) for x, root in found if (x.kind, x.name) != ("unet", other)]
    checkpoint = Checkpoint()
    used: set[str] = set()
    for layout, root in found:
        beside = path.parent / "config.json"
        # The one beside our own weights is of Keras.
        is_theirs = layout.name != "keras" and beside.is_file()
        config = beside if is_theirs and len(found) == 1 else None
        # A model without a prefix is all that has none.
        others = () if root else tuple(other for _, other in found if other)
        kept = {name: name for name in file.specs if not name.startswith(others)}
        part = file.renamed(kept)
        component = _component(part, layout, root, config, overrides)
        if component.part in checkpoint.components:
            raise FormatError(path, f"holds more than one {component.part}")
        checkpoint.components[component.part] = component
        used |= {layout.tensor_name(p, root) for p in component.weights.specs}
    checkpoint.left_out = (*_left_out(file, used), *file.left_out)
    if checkpoint.components.keys() == MODELS.keys():
        # Stable Diffusion's checkpoints have everything but the vocabulary.
        checkpoint.schedule = NoiseSchedule()
    return checkpoint


def _unwrapped(file: TensorFile) -> TensorFile:
    """A file without the prefix that PyTorch gives all names of a wrapped model."""
    for prefix in ("module.", "_orig_mod."):
        if file.specs and all(name.startswith(prefix) for name in file.specs):
            file = file.renamed({n.removeprefix(prefix): n for n in file.specs})
    return file


def _left_out(file: TensorFile, used: set[str]) -> tuple[str, ...]:
    """What of a file is not used, by the first part of its names."""
    sizes: dict[str, list[int]] = {}
    for name, spec in file.specs.items():
        if name not in used:
            first, dot, _ = name.partition(".")
            place = f"{first}.*" if dot else "names without a prefix"
            sizes.setdefault(place, []).append(math.prod(spec.shape))
    return tuple(
        f"{place}: {len(found)} tensors of {sum(found):,} numbers"
        for place, found in sorted(sizes.items())
    )


def _only_file(folder: Path) -> Path | None:
    """The one checkpoint in a folder that has nothing else of a model, if it is so."""
    has_parts = any((folder / part).is_dir() for part in MODELS)
    if has_parts or (folder / "config.json").is_file():
        return None
    files = [p for p in folder.iterdir() if p.suffix in (".ckpt", ".safetensors")]
    # What the libraries name so has a configuration, which is missing.
    if len(files) != 1 or re.fullmatch(_STEM, files[0].stem):
        return None
    return files[0]


def _layouts_in(file: TensorFile) -> list[tuple[Layout, str]]:
    """Pairs of layout and root, which stands before every name: one for each model."""
    pairs = [(layout, root) for layout in LAYOUTS for root in layout.roots]
    return [(layout, root) for layout, root in pairs if layout.names(file.specs, root)]


def find_layout(
    file: TensorFile, kind: str | None = None, name: str | None = None
) -> tuple[Layout, str]:
    """The layout of the one model in a file, of this kind and this layout."""
    pairs = [pair for pair in _layouts_in(file) if kind in (None, pair[0].kind)]
    found = [pair for pair in pairs if name in (None, pair[0].name)]
    if len(found) != 1:
        wanted = " ".join(filter(None, (name, kind or "known model")))
        names = list(file.specs)
        raise file.error(
            f"must hold one {wanted}. Received: {len(found)} of them, in "
            f"{len(names)} tensors such as {', '.join(names[:5]) or 'none'}"
        )
    return found[0]


def _component(
    file: TensorFile, layout: Layout, root: str, config: Path | None, overrides
) -> Component:
    """A model in a file: by what the file says, by its `config.json`, or by tensors."""
    kind = layout.kind
    with reading(file.path):
        told = parse_json(file.metadata.get(METADATA, "{}"), METADATA)
        if not isinstance(told, dict) or not isinstance(told.get(kind, {}), dict):
            raise ValueError(f"{METADATA} must map kinds to arguments")
        arguments = complete(kind, told[kind]) if kind in told else None
    if arguments is None and config is not None:
        theirs = architecture(read_config(config))
        with reading(config):
            arguments = complete(kind, our_arguments(kind, theirs))
    arguments = arguments or infer_arguments(file, layout, root)
    return component_from_file(file, layout, root, arguments, overrides)


def _open_pipeline(folder, stack, overrides, variant) -> Checkpoint:
    """Open a folder with `unet/`, `vae/` and so on, or one of these alone."""
    folders = {part: folder / part for part in MODELS if (folder / part).is_dir()}
    if not folders:
        component = _open_folder(folder, None, stack, overrides, variant)
        return Checkpoint({component.part: component})
    # A motion adapter's modules are in the UNet beside it.
    known = {"tokenizer", "scheduler", "motion_adapter"}
    known |= {path.name for path in folders.values()}
    others = sorted(p.name for p in folder.iterdir() if p.is_dir())
    left_out = tuple(f"{name}: a folder" for name in others if name not in known)
    checkpoint = Checkpoint(left_out=left_out)
    for part, path in folders.items():
        component = _open_folder(path, part, stack, overrides, variant)
        checkpoint.components[part] = component
    if (folder / "tokenizer").is_dir():
        with reading(folder / "tokenizer"):
            preprocessor = TextToVideoPreprocessor.from_hub_folder(str(folder))
        checkpoint.preprocessor = preprocessor
    scheduler = folder / "scheduler" / "scheduler_config.json"
    if scheduler.is_file():
        config = read_config(scheduler)
        with reading(scheduler):
            checkpoint.schedule = NoiseSchedule.from_diffusers_config(config)
    if {"unet", "vae"} <= checkpoint.components.keys():
        checkpoint.defaults = _default_size(folder, checkpoint.component("vae"))
    return checkpoint


def _open_folder(folder, kind, stack, overrides, variant) -> Component:
    config = folder / "config.json"
    file = stack.enter_context(open_tensors(_weights_file(folder, variant)))
    return _component(file, *find_layout(file, kind), config, overrides)


def _weights_file(folder: Path, variant: str | None) -> Path:
    """The weights in a model's folder: of the variant, or else in full precision."""
    names = sorted(path.name for path in folder.iterdir())
    found = []
    for name in names:
        match = _WEIGHTS_NAME.fullmatch(name)
        if match:
            has = next(filter(None, (match[1], match[4], match[5])), None)
            rank = (has != variant, has is not None, _FORMATS.index(match[2]))
            found.append((rank, name))
    if not found:
        problem = f"{folder} has no weights such as diffusion_pytorch_model.safetensors"
        raise FileNotFoundError(f"{problem}. It has {names[:20]}")
    return folder / min(found)[1]


def _default_size(folder, vae) -> dict[str, int]:
    """Height and width that the UNet's configuration tells, in pixels as diffusers."""
    path = folder / "unet" / "config.json"
    sample_size = read_config(path).get("sample_size")
    if sample_size is None:
        return {}
    with reading(path):
        sides = sides_of(sample_size)
    factor = 2 ** (len(vae.arguments["block_channels"]) - 1)
    height, width = (side * factor for side in sides)
    # A task would refuse others, where nobody asked for them.
    fits = not (height % SIZE_STEP or width % SIZE_STEP)
    return {"height": height, "width": width} if fits else {}


# Models are small folders of configurations beside one large file in several formats
# and precisions, of which one is enough: the first that there is.
_CONFIGURATIONS = ["*.json", "*.txt", "README.md"]
_VARIANTS = ["*.fp16.*", "*.non_ema.*"]


def download(name: str, variant: str | None = None) -> Path:
    """Fetch a repository (`hf://owner/name[@revision]`) through the hub's cache.

    With `variant` files of it are fetched where there are any.
    """
    folder = presets.snapshot(name, [*_CONFIGURATIONS, *presets.PRESET_FILES])
    if presets.is_preset(folder):
        return folder
    parts = [folder / part for part in MODELS if (folder / part).is_dir()]
    wanted = [part.name + "/" for part in parts] or [""]
    # As `_weights_file` chooses: full precision in any format before a variant.
    for ignored, kind in itertools.product(
        [[]] if variant else [_VARIANTS, []], _FORMATS
    ):
        patterns = [f"{part}*.{kind}" for part in wanted]
        presets.snapshot(name, _CONFIGURATIONS + patterns, ignored)
        wanted = [part for part in wanted if not any((folder / part).glob(f"*.{kind}"))]
        if not wanted:
            return folder
    if not parts:
        # KerasCV's repository has other weights beside these, of other formats.
        published = [known.published for known in kerascv.KERASCV_CLASSES]
        presets.snapshot(name, [*_CONFIGURATIONS, *published, "*.ckpt"])
    return folder
