"""Files of adapters (LoRA) and of learnt tokens, in each form that people have."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.json_files import parse_json, read_object
from weights_tools.architectures import shapes_of
from weights_tools.checkpoint import FLOATS, alike, read_floats, told
from weights_tools.formats import (
    TensorFile,
    TensorSpec,
    create_tensors,
    open_tensors,
    reading,
)
from weights_tools.kerascv import TEXT_ENCODER
from weights_tools.layouts import LAYOUTS, Layout
from weights_tools.opening import open_source

# diffusers' earlier names of the projections in attention.
_OLDER_NAMES = (
    (r"_to_out_0$", "_to_out"),
    (r"_self_attn_([qkv])_proj$", r"_self_attn_to_\1"),
    (r"_self_attn_out_proj$", "_self_attn_to_out"),
)
_PREFIXES = {
    "unet": ("unet.", "lora_unet_"),
    "text_encoder": ("text_encoder.", "lora_te_", "lora_te1_"),
}
_WRAPPERS = ("base_model.model.", "module.")
_ROLES = {
    "down": r"[._]lora(_down|_linear_layer\.down|\.down|_A(\.default)?)\.weight$",
    "up": r"[._]lora(_up|_linear_layer\.up|\.up|_B(\.default)?)\.weight$",
    "alpha": r"([._]lora)?\.alpha$",
}
# What is no pair of matrices, by a pattern of names. Mostly LyCORIS's.
_OTHER_KINDS = {
    "LoKr": r"\.lokr_",
    "LoHa": r"\.hada_",
    "OFT": r"\.oft_",
    "(IA)^3": r"\.on_input$|\.ia3_",
    "GLoRA": r"\.[ab][12]\.weight$",
    "DoRA": r"\.dora_scale$|\.lora_magnitude_vector",
    "a Tucker decomposition": r"\.lora_mid\.",
    "full differences": r"\.diff(_b)?$|\.[wb]_norm$",
    "LoRA with biases": r"lora_B(\.default)?\.bias$",
}
# Arguments of the full-size models.
SD_15: dict[str, dict[str, Any]] = {
    "unet": {},
    "text_encoder": {"vocabulary_size": 49408, **TEXT_ENCODER.defaults},
}
_METADATA = "lora_adapter_metadata"
_MOST_RANK = 4096
_LISTED = 5

LORA_FORMS = ("diffusers", "kohya")

# Under which AUTOMATIC1111 keeps vectors, whatever their token; its name is the file's.
_NAMELESS = ("emb_params", "*")
# As a prompt has, more than any has been seen to have.
_MOST_VECTORS = 75


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to one kernel: `alpha / rank * up @ down`, in PyTorch's axes."""

    down: np.ndarray  # `(rank, in)`, or `(rank, in, *sides)` of a convolution.
    up: np.ndarray  # `(out, rank)`, or `(out, rank, 1, ...)` of a convolution.
    alpha: float

    @classmethod
    def of(
        cls, kind: str, path: str, a: np.ndarray, b: np.ndarray, alpha: float
    ) -> "LowRank":
        """That of Keras's `a` `(..., in, rank)` and `b` `(rank, out)` for a kernel."""
        order = _layouts(kind, path)[0].order(path, a.ndim)
        up = b.T.reshape(*b.T.shape, *(1,) * (a.ndim - 2))
        return cls(
            np.ascontiguousarray(a.transpose(order)), np.ascontiguousarray(up), alpha
        )

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def delta(
        self, kind: str, path: str, shape: Sequence[int], scale: float = 1.0
    ) -> np.ndarray:
        """The product times a scale, float32, for our kernel of a `shape` at `path`."""
        layout = _layouts(kind, path)[0]
        down = self.down.reshape(self.rank, *layout.shape(path, shape)[1:])
        # Turned before the product, which is large, and then has our axes.
        order = np.argsort(layout.order(path, down.ndim))
        down = down.transpose(order).reshape(-1, self.rank).astype("float32")
        up = self.up.reshape(-1, self.rank).astype("float32")
        return (down @ (scale * self.alpha / self.rank * up.T)).reshape(shape)


# By the kind of a model, then by the path of a kernel in it.
Adapters = Mapping[str, Mapping[str, LowRank]]
Shapes = Mapping[str, Mapping[str, tuple[int, ...]]]


def read_lora(path: StrPath, shapes: Shapes) -> Adapters:
    """Read a file of adapters for models of ours, of these shapes by kind and path.

    It is in the form of kohya, of diffusers (today's and earlier ones) or of PEFT. What
    does not fit is a `FormatError`.
    """
    with open_tensors(path) as file:
        found = _by_kernel(file, shapes)
        settings = _settings(file)
        adapters: dict[str, dict[str, LowRank]] = {}
        for (kind, kernel), names in found.items():
            # Copies: what is read may be a view of the file.
            down, up = (np.array(read_floats(file, names[r])) for r in ("down", "up"))
            if "alpha" in names:
                value = read_floats(file, names["alpha"], (*FLOATS, "int64"))
                alpha = float(value.item())
            else:
                layer = re.sub(_ROLES["down"], "", _target(names["down"])[1])
                alpha = settings(kind, layer, down.shape[0])
            adapters.setdefault(kind, {})[kernel] = LowRank(down, up, alpha)
    return adapters


def _by_kernel(file: TensorFile, shapes: Shapes) -> dict[tuple[str, str], dict]:
    """The names of down, up and alpha for each kernel; all of them fit."""
    for others, pattern in _OTHER_KINDS.items():
        if names := [name for name in file.specs if re.search(pattern, name)]:
            listed = told({"tensors": names}, _LISTED)
            raise file.error(f"holds {others}, and only plain LoRA is taken: {listed}")
    kernels = {kind: kernel_names(kind, shapes[kind]) for kind in shapes}
    found: dict[tuple[str, str], dict[str, str]] = {}
    homeless, repeated = [], []
    for name in file.specs:
        role = next((r for r, end in _ROLES.items() if re.search(end, name)), None)
        kind, module = _target(name)
        kinds = [kind] if kind else list(kernels)
        flat = re.sub(_ROLES[role], "", module).replace(".", "_") if role else ""
        flat = flat.removeprefix("text_model_")
        homes = [(k, kernels[k][flat]) for k in kinds if flat in kernels.get(k, ())]
        if role is None or not homes:
            homeless.append(name)
        elif role in found.setdefault(homes[0], {}):
            repeated.append(name)
        else:
            found[homes[0]][role] = name
    whole = {k: names for k, names in found.items() if {"down", "up"} <= names.keys()}
    misshapen = [
        problem
        for (kind, path), names in whole.items()
        if (problem := _misfit(file, names, kind, path, shapes[kind][path]))
    ]
    lonely = [n for k, names in found.items() if k not in whole for n in names.values()]
    problems = {
        "have no place in the models": homeless,
        "stand there twice": repeated,
        "lack their other half": lonely,
        "are misshapen": misshapen,
    }
    if any(problems.values()) or not found:
        raise file.error(
            f"must be adapters (LoRA) for {' and '.join(shapes)}. Received: "
            f"{len(file.specs)} tensors, of which "
            + (told(problems, _LISTED) or "none fit")
        )
    return found


def _target(name: str) -> tuple[str | None, str]:
    """The kind of model that a name is of, if it tells, and the name without that."""
    kind = None
    rest = name
    while True:
        before = rest
        for wrapper in _WRAPPERS:
            rest = rest.removeprefix(wrapper)
        for candidate, prefixes in _PREFIXES.items():
            for prefix in prefixes:
                if kind is None and rest.startswith(prefix):
                    kind, rest = candidate, rest.removeprefix(prefix)
        if rest == before:
            return kind, rest.replace(".processor.", ".")


def kernel_names(kind: str, paths: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Paths of kernels by each name that a file may have for them, in underscores."""
    names: dict[str, str] = {}
    for path in paths:
        for layout in _layouts(kind, path):
            name = _layer_name(layout, path).replace(".", "_")
            for pattern, older in (("$", ""), *_OLDER_NAMES):
                names.setdefault(re.sub(pattern, older, name), path)
    return names


def _layouts(kind: str, path: str) -> list[Layout]:
    """Layouts whose name for a kernel files may use; the first one is written.

    In kohya's form dots of a name are underscores. All have the axes of PyTorch.
    """
    layouts = [
        layout
        for layout in LAYOUTS
        if (layout.kind, layout.container) == (kind, "safetensors")
        and path.endswith("/kernel")
        and layout.holds(path)
    ]
    return sorted(layouts, key=lambda layout: layout.name != "diffusers")


def _layer_name(layout: Layout, path: str) -> str:
    return layout.tensor_name(path, "").removesuffix(".weight")


def _misfit(file, names, kind, path, shape) -> str | None:
    """What of two tensors does not fit a kernel."""
    down, up = (file.specs[names[role]].shape for role in ("down", "up"))
    out, *rest = _layouts(kind, path)[0].shape(path, shape)
    if len(down) < 2 or not 1 <= down[0] <= _MOST_RANK:
        return f"{names['down']} {down}, expected a rank of 1 to {_MOST_RANK}"
    # A convolution of 1 x 1 may be a matrix.
    if not alike(down[1:], rest):
        return f"{names['down']} {down}, expected {(down[0], *rest)}"
    if up[:2] != (out, down[0]) or math.prod(up) != out * down[0]:
        return f"{names['up']} {up}, expected {(out, down[0])}"
    if "alpha" in names and math.prod(file.specs[names["alpha"]].shape) != 1:
        return f"{names['alpha']} {file.specs[names['alpha']].shape}, expected a number"
    return None


def _settings(file: TensorFile) -> Callable[[str, str, int], float]:
    """A function of kind, layer and rank that tells alpha, by PEFT's configuration."""
    beside = file.path.with_name("adapter_config.json")
    is_peft = all(name.startswith(_WRAPPERS[0]) for name in file.specs)
    configs: dict[str, dict[str, Any]] = {}
    with reading(file.path):
        told = parse_json(file.metadata.get(_METADATA, "{}"), _METADATA)
        if not isinstance(told, dict):
            raise ValueError(f"{_METADATA} must be an object")
        for key, value in told.items():
            kind, _, setting = key.partition(".")
            configs.setdefault(kind, {})[setting] = value
    if not told and is_peft and beside.is_file():
        with reading(beside):
            configs = dict.fromkeys(_PREFIXES, read_object(beside))

    def alpha(kind: str, layer: str, rank: int) -> float:
        config = configs.get(kind, {})
        value = config.get("lora_alpha", rank)
        patterns = config.get("alpha_pattern") or {}
        for pattern, other in patterns.items() if isinstance(patterns, dict) else ():
            if layer == pattern.lstrip("^") or f".{layer}".endswith(f".{pattern}"):
                value = other
                break
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise file.error(f"has an alpha that is no number: {value!r} for {layer}")
        # PEFT's rank-stabilised form divides by the root of the rank.
        return float(value) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)

    return alpha


def read_embedding(path: StrPath, width: int) -> tuple[str, np.ndarray]:
    """Read a token and its vectors `(N, width)` from a file.

    It is of diffusers, one tensor by the name of the token, or of AUTOMATIC1111, whose
    token is the file's own name. Any other, or of another text encoder, is an error.
    """
    with open_tensors(path) as file:
        if len(file.specs) != 1:
            raise file.error(
                "must hold the vectors of one token. Received: "
                f"{len(file.specs)} tensors, such as {', '.join(list(file.specs)[:5])}"
            )
        ((name, spec),) = file.specs.items()
        *sizes, received = spec.shape or (0,)
        count = sizes[0] if sizes else 1
        if received != width or len(sizes) > 1 or not 1 <= count <= _MOST_VECTORS:
            raise file.error(
                f"must be 1 to {_MOST_VECTORS} vectors of {width} numbers, as the text "
                f"encoder has. Received: shape {spec.shape}",
                tensor=name,
            )
        vectors = np.array(read_floats(file, name), "float32").reshape(count, width)
    return (Path(path).stem if name in _NAMELESS else name), vectors


def write_lora(path: StrPath, adapters: Adapters, form: str = "diffusers") -> None:
    """Write adapters to a file of safetensors; `read_lora` gives the same again.

    Temporal layers have the names of the layout `"makeavid_torch"`, others diffusers'.
    """
    if form not in LORA_FORMS:
        raise ValueError(f"form must be one of {LORA_FORMS}. Received: {form!r}")
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"A LoRA file must end in .safetensors. Received: {path}")
    tensors: dict[str, np.ndarray] = {}
    for kind, pairs in adapters.items():
        for kernel, pair in pairs.items():
            tensors |= _named(form, kind, _written_name(kind, kernel), pair)
    specs = {name: TensorSpec(a.shape, a.dtype.name) for name, a in tensors.items()}
    metadata = {"format": "pt"}
    if form == "diffusers":
        metadata[_METADATA] = json.dumps(_peft_config(adapters))
    with create_tensors(path, specs, "safetensors", metadata) as writer:
        for name, array in tensors.items():
            writer.write(name, array)


def convert_lora(
    source: StrPath,
    out: StrPath,
    form: str = "diffusers",
    *,
    base: StrPath | None = None,
    force: bool = False,
) -> int:
    """Bring a file of adapters into another form; its numbers stay to the bit.

    Args:
        source: A file of kohya's, diffusers' or PEFT's form.
        out: The file to write, `.safetensors`.
        form: `"diffusers"` or `"kohya"`.
        base: A source of the models that the adapters are for, as `convert` takes it.
            `None` is for Stable Diffusion 1.5 in full size.
        force: Replace what is at `out`.

    Returns:
        The number of layers with adapters.

    Raises:
        FileExistsError: There is something at `out`, and not `force`.
        FileNotFoundError: There is no source.
        ValueError: Models, form or name of the file do not fit.

    Example:
    ```python
    convert_lora("runs/lora/lora.safetensors", "style.safetensors", form="kohya")
    ```
    """
    if Path(out).exists() and not force:
        raise FileExistsError(f"{out} exists: give another name, or force")
    if base is None:
        shapes: Shapes = {k: shapes_of(k, arguments) for k, arguments in SD_15.items()}
    else:
        with open_source(base) as checkpoint:
            shapes = {
                kind: component.shapes
                for kind, component in checkpoint.components.items()
                if kind in _PREFIXES
            }
    adapters = read_lora(source, shapes)
    write_lora(out, adapters, form)
    return sum(map(len, adapters.values()))


def _written_name(kind: str, path: str) -> str:
    name = _layer_name(_layouts(kind, path)[0], path)
    return f"text_model.{name}" if kind == "text_encoder" else name


def _named(form, kind, layer, pair: LowRank) -> dict[str, np.ndarray]:
    if form == "diffusers":
        name = _PREFIXES[kind][0] + layer
        return {f"{name}.lora_A.weight": pair.down, f"{name}.lora_B.weight": pair.up}
    name = _PREFIXES[kind][1] + layer.replace(".", "_")
    alpha = np.float32(pair.alpha)
    exact = alpha if float(alpha) == pair.alpha else np.float64(pair.alpha)
    return {
        f"{name}.lora_down.weight": pair.down,
        f"{name}.lora_up.weight": pair.up,
        f"{name}.alpha": np.asarray(exact),
    }


def _peft_config(adapters: Adapters) -> dict[str, Any]:
    """What diffusers makes PEFT's `LoraConfig` of."""
    config: dict[str, Any] = {}
    for kind, pairs in adapters.items():
        layers = {_written_name(kind, path): pair for path, pair in pairs.items()}
        first = next(iter(pairs.values()))
        config |= {
            f"{kind}.r": first.rank,
            f"{kind}.lora_alpha": first.alpha,
            f"{kind}.target_modules": list(layers),
            f"{kind}.rank_pattern": {
                f"^{n}": p.rank for n, p in layers.items() if p.rank != first.rank
            },
            f"{kind}.alpha_pattern": {
                f"^{n}": p.alpha for n, p in layers.items() if p.alpha != first.alpha
            },
        }
    return config
