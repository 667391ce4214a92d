"""How each published layout names and orders our weights: a table for both ways.

KerasCV's have a module of their own.
"""

import functools
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from keras_makeavid.validation import check_choice
from keras_makeavid.video.opencv import load_cv2

# Middle indices that are turned at a time, so that what is turned stays in the cache.
_BLOCK = 32

# Only the bytes matter; OpenCV does not know every dtype of theirs.
_KINDS = {2: np.uint16, 4: np.int32}


@dataclass(frozen=True, eq=False)
class Layout:
    """Names and axis orders of one kind of model in one checkpoint layout.

    An ordered list of substitutions turns the path of one of our variables into the
    tensor's name in the file. Reading and writing both follow from it.
    """

    name: str  # Such as `"diffusers"`.
    kind: str  # `"unet"`, `"vae"`, `"text_encoder"` or `"tiny_vae"`.
    container: str  # The file format that it is written in.
    # Pairs for `re.sub`, applied in order to a path without the model's own name.
    renames: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
    marker: str  # Path of the variable whose tensor identifies this layout in a file.
    # For patterns of paths, the order of our axes in the file.
    axes: Sequence[tuple[str, tuple[int, ...]]] = ()
    # And how many of them each there holds: `(1, 2)` merges two, 0 is one of size 1.
    groups: Sequence[tuple[str, tuple[int, ...]]] = ()
    roots: Sequence[str] = ("",)  # What names may have before them, the first written.
    beside: str | None = None  # Path of a variable whose tensor must be there, too.
    without: str | None = None  # And of one that tells that it is another layout.
    temporal: bool | str | None = None  # The one form of temporal parts that it holds.
    absent: str | None = None  # Pattern of paths that it does not hold.
    ignored: str | None = None  # Pattern of names in the file that are not weights.
    # Arguments that configurations omit, and further ones that others hard-code.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    assumed: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def _renames(self):
        return [(re.compile(pattern), by) for pattern, by in self.renames]

    def holds(self, path: str) -> bool:
        """Whether the layout has the variable at `path`."""
        return self.absent is None or not re.search(self.absent, path)

    def ignores(self, name: str) -> bool:
        """Whether the tensor of this name in the file is no weight."""
        return self.ignored is not None and bool(re.search(self.ignored, name))

    def names(self, tensors: Container[str], root: str) -> bool:
        """Whether a model of this layout is among tensors of these names."""
        there, gone = (self.marker, self.beside), self.without
        return all(
            path is None or self.tensor_name(path, root) in tensors for path in there
        ) and (gone is None or self.tensor_name(gone, root) not in tensors)

    def tensor_name(self, path: str, root: str | None = None) -> str:
        """Name in the file of the variable at `path`."""
        for pattern, replacement in self._renames:
            path = pattern.sub(replacement, path)
        return (self.roots[0] if root is None else root) + path

    def shape(self, path: str, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape in the file of the variable at `path`, which has `shape` in ours."""
        grouped = self._grouped(path, shape)
        return tuple(grouped[axis] for axis in self.order(path, len(grouped)))

    def from_layout(
        self, path: str, tensor: np.ndarray, shape: Sequence[int]
    ) -> np.ndarray:
        """Bring `tensor` from this layout to our variable's axes and `shape`."""
        order = self.order(path, tensor.ndim)
        return np.transpose(tensor, np.argsort(order)).reshape(shape)

    def to_layout(self, path: str, value: np.ndarray) -> np.ndarray:
        """Bring our variable's `value` into this layout; C-contiguous."""
        grouped = value.reshape(self._grouped(path, value.shape))
        order = self.order(path, grouped.ndim)
        # A transposed array would be written to a file as its memory lies.
        return contiguous(np.transpose(grouped, order))

    def order(self, path: str, rank: int) -> tuple[int, ...]:
        """Which of our axes (as grouped) each axis in the file is."""
        for pattern, axes in self.axes:
            if len(axes) == rank and re.search(pattern, path):
                return axes
        return tuple(range(rank))

    def _grouped(self, path, shape) -> tuple[int, ...]:
        for pattern, groups in self.groups:
            if sum(groups) == len(shape) and re.search(pattern, path):
                sizes = iter(shape)
                taken = ([next(sizes) for _ in range(n)] for n in groups)
                return tuple(int(np.prod(each, dtype=np.int64)) for each in taken)
        return tuple(shape)


# PyTorch: linear (out, in), convolution (out, in, *kernel); ours ends in (in, out).
TORCH_AXES = (
    (r"kernel$", (3, 2, 0, 1)),
    (r"kernel$", (2, 1, 0)),
    (r"kernel$", (1, 0)),
)

TORCH_LEAVES = (
    (r"(kernel|gamma|embeddings)$", "weight"),
    (r"beta$", "bias"),
    (r"/", "."),
)

# KerasHub keeps the heads as an axis of their own.
HEADS = (
    (r"(query|key|value)/kernel$", (1, 2)),
    (r"attention_output/kernel$", (2, 1)),
    (r"(query|key|value)/bias$", (2,)),
)

# The projections of an autoencoder's attention, where they are convolutions.
CONVOLVED_ATTENTION = ((r"attention/to_(q|k|v|out)/kernel$", (0, 0, 1, 1)),)

# Keras numbers the variables of a layer in the order in which it made them.
KERAS_LEAVES = ((r"(kernel|gamma|embeddings)$", "vars/0"), (r"(bias|beta)$", "vars/1"))


def keras_list(ours: str, attribute: str, layer: str) -> tuple[tuple[str, str], ...]:
    """Renames of a list of layers as Keras saves it: by class, 0 has no number."""
    return (
        (rf"{ours}_0/", f"{attribute}/{layer}/"),
        (rf"{ours}_(\d+)/", rf"{attribute}/{layer}_\1/"),
    )


def contiguous(array: np.ndarray) -> np.ndarray:
    """A C-contiguous array of the same values; the array itself if it is one.

    Where the axes lie the other way round, as those of kernels in PyTorch and Keras,
    OpenCV transposes by blocks, several times as fast as NumPy by elements.
    """
    if array.flags.c_contiguous:
        return array
    squeezed = array.squeeze()
    in_memory = np.argsort(squeezed.strides)[::-1]
    base = squeezed.transpose(in_memory)
    order = np.argsort(in_memory)
    # Axes that follow each other here and in memory are one.
    starts = [order[0], *(b for a, b in pairwise(order) if b != a + 1)]
    if (
        not base.flags.c_contiguous
        or array.itemsize not in _KINDS
        or len(starts) > 3
        or starts != sorted(starts, reverse=True)
        or (cv2 := _opencv()) is None
    ):
        return np.ascontiguousarray(array)
    sizes = np.multiply.reduceat(base.shape, starts[::-1])
    turned = _reversed(cv2, base.reshape(sizes).view(_KINDS[array.itemsize]))
    return turned.view(array.dtype).reshape(array.shape)


@functools.cache
def _opencv() -> Any:
    """OpenCV, or `None` where it cannot be loaded: NumPy gives the same, later."""
    try:
        return load_cv2()
    except ImportError:
        return None


def _reversed(cv2, base):
    """`(A, B)` to `(B, A)`, or `(A, B, C)` to `(C, B, A)`."""
    turned = np.empty(base.shape[::-1], base.dtype)
    if base.ndim == 2:
        cv2.transpose(base, dst=turned)
        return turned
    first, middle, last = base.shape
    for start in range(0, middle, _BLOCK):
        block = slice(start, start + _BLOCK)
        if last <= first:
            matrix = base[:, block].reshape(first, -1)
            columns = cv2.transpose(matrix).reshape(-1, last, first)
            turned[:, block] = columns.transpose(1, 0, 2)
        else:
            rows = base[:, block].transpose(1, 0, 2).reshape(-1, last)
            cv2.transpose(rows, dst=turned[:, block].reshape(last, -1))
    return turned


# What the layouts of PyTorch, and those of Keras, have in common.
_TORCH: dict[str, Any] = {"container": "safetensors", "axes": TORCH_AXES}
_KERAS: dict[str, Any] = {"name": "keras", "container": "hdf5"}

# The UNet: image models and inflated ones.

# Paths by which a UNet and motion modules are told.
_CONV_IN = "conv_in/spatial_conv/kernel"
_MODULE = "down_blocks_0/temporal_modules_0/norm/gamma"

_unet = functools.partial(Layout, kind="unet", marker=_CONV_IN)

# What a file of Stable Diffusion 1.x does not tell, and a `config.json` does.
_UNTOLD = {"num_heads": 8, "groups": 32, "epsilon": 1e-5}

# Stable Diffusion's image models; the inflated ones have the model's own defaults.
_IMAGE_MODEL = {"gelu": "exact", "transformer_epsilon": 1e-6}

# A slash is a dot in the end (`TORCH_LEAVES`).
_NUMBERED = (
    (r"(down_blocks|up_blocks|resnets|attentions|downsamplers|upsamplers)_", r"\1/"),
)
_TRANSFORMER = (
    (r"transformer_block/", "transformer_blocks/0/"),
    (r"to_out/", "to_out/0/"),
    (r"ff/proj_in/", "ff/net/0/proj/"),
    (r"ff/proj_out/", "ff/net/2/"),
)
# diffusers has one table of positions for both attentions, which are equal.
_MODULES = (
    (r"(temporal_modules_\d+)/(?!norm/|proj_)", r"\1/transformer_blocks/0/"),
    (r"temporal_modules_", "motion_modules/"),
    (r"positions\d/embeddings$", "pos_embed/pe"),
)
_UNET_RENAMES = (*_MODULES, *_NUMBERED, *_TRANSFORMER)

_UNET_DIFFUSERS = _unet(
    name="diffusers",
    **_TORCH,
    renames=((r"spatial_conv/", ""), *_UNET_RENAMES, *TORCH_LEAVES),
    without=_MODULE,
    absent=r"temporal",
    defaults=_IMAGE_MODEL,
)

# AnimateDiff: diffusers' UNetMotionModel and MotionAdapter, and the original's files.

_UNET_MOTION = replace(
    _UNET_DIFFUSERS,
    name="diffusers_motion",
    marker=_MODULE,
    beside=_CONV_IN,
    without=None,
    temporal="motion_modules",
    absent=None,
    groups=((r"positions\d/embeddings$", (0, 1, 1)),),
    # What diffusers computes, whatever the modules were trained with.
    assumed={"motion_norm_over_frames": True, "residual_norm_over_frames": False},
)
_ADAPTER = replace(
    _UNET_MOTION,
    name="diffusers_adapter",
    beside=None,
    without=_CONV_IN,
    absent=r"^(?!.*temporal)",
)
_ANIMATEDIFF = replace(
    _ADAPTER,
    name="animatediff",
    renames=(
        (r"positions(\d)/embeddings$", r"attn\1/pos_encoder/pe"),
        *((rf"/attn{i + 1}/", f"/attention_blocks/{i}/") for i in range(2)),
        *((rf"/norm{i + 1}/", f"/norms/{i}/") for i in range(2)),
        (r"/norm3/", "/ff_norm/"),
        *_MODULES[:1],
        (r"temporal_modules_(\d+)/", r"motion_modules/\1/temporal_transformer/"),
        *_NUMBERED,
        *_TRANSFORMER,
        *TORCH_LEAVES,
    ),
    # Some trainers wrap the model.
    roots=("", "module."),
    assumed={**_UNTOLD, "motion_num_heads": 8, "motion_norm_over_frames": False},
)


def _ldm_place(path: re.Match[str]) -> str:
    """Where LDM has a layer of a block.

    It numbers what is on the way down, and up, in one row each, three places a level.
    """
    way, level, kind, i = path[1], int(path[2]), path[3], int(path[4])
    if kind == "downsamplers":
        return f"input_blocks/{3 * level + 3}/0/"
    if kind == "upsamplers":
        # The deepest level has no transformer, whose place the upsampler takes.
        return f"output_blocks/{3 * level + 2}/{2 if level else 1}/"
    row, first, layers = ("input", 1, 2) if way == "down" else ("output", 0, 3)
    if i >= layers:
        return path[0]
    return f"{row}_blocks/{3 * level + first + i}/{int(kind == 'attentions')}/"


_UNET_LDM = _unet(
    name="ldm",
    **_TORCH,
    renames=(
        (r"spatial_conv/", ""),
        (r"(resnets_\d+)/norm1/", r"\1/in_layers/0/"),
        (r"(resnets_\d+)/conv1/", r"\1/in_layers/2/"),
        (r"time_emb_proj/", "emb_layers/1/"),
        (r"(resnets_\d+)/norm2/", r"\1/out_layers/0/"),
        (r"(resnets_\d+)/conv2/", r"\1/out_layers/3/"),
        (r"conv_shortcut/", "skip_connection/"),
        *_TRANSFORMER,
        (r"downsamplers_0/conv/", "downsamplers_0/op/"),
        (r"^(down|up)_blocks_(\d+)/(\w+)_(\d+)/", _ldm_place),
        (r"^mid_block/resnets_0/", "middle_block/0/"),
        (r"^mid_block/attentions_0/", "middle_block/1/"),
        (r"^mid_block/resnets_1/", "middle_block/2/"),
        (r"^conv_in/", "input_blocks/0/0/"),
        (r"^time_embedding/linear_1/", "time_embed/0/"),
        (r"^time_embedding/linear_2/", "time_embed/2/"),
        (r"^conv_norm_out/", "out/0/"),
        (r"^conv_out/", "out/2/"),
        *TORCH_LEAVES,
    ),
    # Without its first parts it is the UNet alone.
    roots=("model.diffusion_model.", "diffusion_model.", ""),
    absent=r"temporal",
    defaults=_IMAGE_MODEL,
    assumed=_UNTOLD,
)

_UNETS = (
    _unet(
        **_KERAS,
        renames=(
            *keras_list("down_blocks", "down_blocks", "down_block"),
            *keras_list("up_blocks", "up_blocks", "up_block"),
            *keras_list("resnets", "resnets", "residual_block"),
            *keras_list("attentions", "attentions", "spatio_temporal_transformer"),
            *keras_list("temporal_modules", "temporal_modules", "motion_module"),
            (r"(down|up)samplers_0/", r"\1sampler/"),
            *KERAS_LEAVES,
        ),
        roots=("layers/u_net/", "image_backbone/layers/u_net/"),
    ),
    _unet(
        name="makeavid_torch",
        **_TORCH,
        renames=(*_UNET_RENAMES, *TORCH_LEAVES),
        marker="conv_in/temporal_conv/kernel",
        temporal=True,
        assumed={"gelu": "exact", "transformer_epsilon": 1e-5},
    ),
    _unet(
        name="makeavid_flax",
        container="flax_msgpack",
        renames=(
            (r"transformer_block/", "transformer_blocks_0/"),
            (r"to_out/", "to_out_0/"),
            (r"ff/proj_in/", "ff/net_0/proj/"),
            (r"ff/proj_out/", "ff/net_2/"),
            (r"gamma$", "scale"),
            (r"beta$", "bias"),
        ),
        marker="conv_in/temporal_conv/kernel",
        temporal=True,
        assumed={"gelu": "tanh", "transformer_epsilon": 1e-5, **_UNTOLD},
    ),
    _ANIMATEDIFF,
    _ADAPTER,
    _UNET_DIFFUSERS,
    _UNET_MOTION,
    _UNET_LDM,
    # The running mean of the weights that LDM keeps beside them, in names without dots.
    replace(
        _UNET_LDM,
        name="ldm_ema",
        renames=(*_UNET_LDM.renames, (r"\.", "")),
        roots=("model_ema.diffusion_model",),
    ),
)

# The image autoencoder, whose attention's projections have names that tell a layout.

_vae = functools.partial(
    Layout, kind="vae", marker="encoder/mid_block/attention/to_q/kernel"
)
_VAE_RENAMES = (
    (r"mid_block/attention/", "mid_block/attentions_0/"),
    (r"downsamplers_0/", "downsamplers_0/conv/"),
    *_NUMBERED,
)
_VAE_PROJECTIONS = {
    "diffusers": [(r"to_out/", "to_out.0/")],
    # Files from before diffusers 0.15, such as Stable Diffusion 1.5's own.
    "diffusers_old": [
        *((rf"to_{x[0]}/", f"{x}/") for x in ("query", "key", "value")),
        (r"to_out/", "proj_attn/"),
    ],
}
_VAES = (
    _vae(
        **_KERAS,
        renames=(
            *keras_list("down_blocks", "down_blocks", "image_block"),
            *keras_list("up_blocks", "up_blocks", "image_block"),
            *keras_list("resnets", "resnets", "image_residual_block"),
            (r"(down|up)samplers_0/", "sampler/"),
            *KERAS_LEAVES,
        ),
        roots=("layers/autoencoder/", "vae/layers/autoencoder/"),
    ),
    *(
        _vae(name=name, **_TORCH, renames=(*_VAE_RENAMES, *own, *TORCH_LEAVES))
        for name, own in _VAE_PROJECTIONS.items()
    ),
    _vae(
        name="ldm",
        **_TORCH,
        renames=(
            (r"conv_shortcut/", "nin_shortcut/"),
            (r"mid_block/resnets_0/", "mid/block_1/"),
            (r"mid_block/resnets_1/", "mid/block_2/"),
            (r"mid_block/attention/", "mid/attn_1/"),
            (r"group_norm/", "norm/"),
            (r"to_([qkv])/", r"\1/"),
            (r"to_out/", "proj_out/"),
            (r"down_blocks_(\d+)/", r"down/\1/"),
            # On the way up LDM counts the four levels from the finest.
            *((rf"up_blocks_{level}/", f"up/{3 - level}/") for level in range(4)),
            (r"resnets_(\d+)/", r"block/\1/"),
            (r"downsamplers_0/", "downsample/conv/"),
            (r"upsamplers_0/", "upsample/"),
            (r"conv_norm_out/", "norm_out/"),
            *TORCH_LEAVES,
        ),
        groups=CONVOLVED_ATTENTION,
        roots=("first_stage_model.", ""),
        # The loss that the autoencoder was trained with may lie beside it.
        ignored=r"^(first_stage_model\.)?(loss|model_ema)\.",
    ),
)

# The tiny autoencoder, whose layers are named by their place.

_tiny_vae = functools.partial(Layout, kind="tiny_vae", marker="decoder/layers_0/kernel")
_TINY_VAES = (
    _tiny_vae(**_KERAS, renames=KERAS_LEAVES, roots=("layers/tiny_autoencoder/",)),
    _tiny_vae(
        name="diffusers",
        **_TORCH,
        renames=((r"(layers|conv)_", r"\1/"), *TORCH_LEAVES),
    ),
)

# CLIP's text encoder.

_TEXT_DIFFUSERS = Layout(
    name="diffusers",
    kind="text_encoder",
    **_TORCH,
    renames=(
        (r"^embedding/", "embeddings/"),
        (r"^encoder_block_(\d+)/", r"encoder/layers/\1/"),
        (r"/layer_norm_(\d)/", r"/layer_norm\1/"),
        (r"^layer_norm/", "final_layer_norm/"),
        (r"attention/query/", "self_attn/q_proj/"),
        (r"attention/key/", "self_attn/k_proj/"),
        (r"attention/value/", "self_attn/v_proj/"),
        (r"attention/attention_output/", "self_attn/out_proj/"),
        (r"dense_(\d)/", r"mlp/fc\1/"),
        *TORCH_LEAVES,
    ),
    marker="embedding/token_embedding/embeddings",
    groups=HEADS,
    # transformers 5 writes no prefix, and reads both.
    roots=("text_model.", ""),
    # A buffer of 0, 1, 2, ... that older files carry along.
    ignored=r"embeddings\.position_ids$",
)
_TEXT_ENCODERS = (
    Layout(
        **_KERAS,
        kind="text_encoder",
        renames=(
            (r"^embedding/", "token_and_position_embedding/"),
            (r"^encoder_block_0/", "clip_encoder_layer/"),
            (r"^encoder_block_(\d+)/", r"clip_encoder_layer_\1/"),
            (r"^layer_norm/", "layer_normalization/"),
            (r"attention/(query|key|value)/", r"attention/\1_dense/"),
            (r"attention/attention_output/", "attention/output_dense/"),
            *KERAS_LEAVES,
        ),
        marker=_TEXT_DIFFUSERS.marker,
        roots=("layers/", "text_encoder/layers/"),
    ),
    _TEXT_DIFFUSERS,
    replace(
        _TEXT_DIFFUSERS,
        name="ldm",
        roots=(
            "cond_stage_model.transformer.text_model.",
            "cond_stage_model.transformer.",
        ),
    ),
)

LAYOUTS: tuple[Layout, ...] = (*_UNETS, *_VAES, *_TEXT_ENCODERS, *_TINY_VAES)


def get_layout(kind: str, name: str) -> Layout:
    """The layout of a name for a kind of model; `ValueError` if it has none such."""
    named = {layout.name: layout for layout in LAYOUTS if layout.kind == kind}
    check_choice(f"The layout of a {kind}", name, named)
    return named[name]
