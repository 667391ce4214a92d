"""CLIP's text encoder: KerasHub's model with the weights of transformers' files."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import keras
import keras_hub
import numpy as np

from keras_makeavid.text.vocabulary import read_json


class TextWeight(NamedTuple):
    """Where one weight of the text encoder is found in either library.

    Args:
        name: Its name in transformers' `CLIPTextModel`.
        path: Its attribute path in KerasHub's `CLIPTextEncoder`.
        shape: Its shape in transformers, as keys of the model's config.
    """

    name: str
    path: str
    shape: tuple[str, ...]

    @property
    def transposed(self) -> bool:
        """Whether transformers keeps it as (out, in) and Keras as (in, out)."""
        return self.path.endswith(".kernel")


MODEL_WEIGHTS = (
    TextWeight(
        "embeddings.token_embedding.weight",
        "embedding.token_embedding.embeddings",
        ("vocab_size", "hidden_size"),
    ),
    TextWeight(
        "embeddings.position_embedding.weight",
        "embedding.position_embedding.position_embeddings",
        ("max_position_embeddings", "hidden_size"),
    ),
    TextWeight("final_layer_norm.weight", "layer_norm.gamma", ("hidden_size",)),
    TextWeight("final_layer_norm.bias", "layer_norm.beta", ("hidden_size",)),
)

LAYER_WEIGHTS = (
    TextWeight("layer_norm1.weight", "layer_norm_1.gamma", ("hidden_size",)),
    TextWeight("layer_norm1.bias", "layer_norm_1.beta", ("hidden_size",)),
    TextWeight(
        "self_attn.q_proj.weight",
        "attention.query_dense.kernel",
        ("hidden_size", "hidden_size"),
    ),
    TextWeight("self_attn.q_proj.bias", "attention.query_dense.bias", ("hidden_size",)),
    TextWeight(
        "self_attn.k_proj.weight",
        "attention.key_dense.kernel",
        ("hidden_size", "hidden_size"),
    ),
    TextWeight("self_attn.k_proj.bias", "attention.key_dense.bias", ("hidden_size",)),
    TextWeight(
        "self_attn.v_proj.weight",
        "attention.value_dense.kernel",
        ("hidden_size", "hidden_size"),
    ),
    TextWeight("self_attn.v_proj.bias", "attention.value_dense.bias", ("hidden_size",)),
    TextWeight(
        "self_attn.out_proj.weight",
        "attention.output_dense.kernel",
        ("hidden_size", "hidden_size"),
    ),
    TextWeight(
        "self_attn.out_proj.bias", "attention.output_dense.bias", ("hidden_size",)
    ),
    TextWeight("layer_norm2.weight", "layer_norm_2.gamma", ("hidden_size",)),
    TextWeight("layer_norm2.bias", "layer_norm_2.beta", ("hidden_size",)),
    TextWeight(
        "mlp.fc1.weight", "dense_1.kernel", ("intermediate_size", "hidden_size")
    ),
    TextWeight("mlp.fc1.bias", "dense_1.bias", ("intermediate_size",)),
    TextWeight(
        "mlp.fc2.weight", "dense_2.kernel", ("hidden_size", "intermediate_size")
    ),
    TextWeight("mlp.fc2.bias", "dense_2.bias", ("hidden_size",)),
)

# transformers' name of each size, ours, and a bound that keeps a hostile config from
# asking for more than any CLIP has.
SIZES = {
    "vocab_size": ("vocabulary_size", 2**20),
    "max_position_embeddings": ("max_sequence_length", 2**12),
    "hidden_size": ("hidden_dim", 2**13),
    "intermediate_size": ("intermediate_dim", 2**15),
    "num_hidden_layers": ("num_layers", 2**7),
    "num_attention_heads": ("num_heads", 2**7),
}

# Both libraries use the same two names, "gelu" being the exact form.
ACTIVATIONS = ("quick_gelu", "gelu")

# Files written before transformers 5 have this prefix, later ones do not.
PREFIX = "text_model."

# A buffer of 0, 1, 2, ... that older files carry along.
POSITION_IDS = "embeddings.position_ids"


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TextEncoder(keras_hub.models.CLIPTextEncoder):
    """KerasHub's CLIP text encoder with transformers' layer norms.

    KerasHub fixes the epsilon of the last layer norm to 1e-6, where CLIP has 1e-5.
    Here it is part of the config, so that presets keep it.

    It takes `{"token_ids": int32 (B, L)}` and returns the context `(B, L, D)`, the
    last hidden state after the final layer norm.

    Args:
        *args: Arguments of `keras_hub.models.CLIPTextEncoder`.
        layer_norm_epsilon: Epsilon of every layer norm.
        **kwargs: Arguments of `keras_hub.models.CLIPTextEncoder`.

    Example:
    ```python
    encoder = TextEncoder(
        vocabulary_size=49408, embedding_dim=768, hidden_dim=768,
        num_layers=12, num_heads=12, intermediate_dim=3072,
    )
    context = encoder({"token_ids": preprocessor("a cat")})  # (1, 77, 768)
    ```
    """

    def __init__(self, *args, layer_norm_epsilon: float = 1e-5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.layer_norm.epsilon = layer_norm_epsilon
        for layer in self.encoder_layers:
            layer.layer_norm_1.epsilon = layer_norm_epsilon
            layer.layer_norm_2.epsilon = layer_norm_epsilon

    def get_config(self) -> dict:
        """Return the arguments that rebuild this model."""
        return {**super().get_config(), "layer_norm_epsilon": self.layer_norm_epsilon}


def load_clip_text_encoder(
    folder: str, dtype: str | None = None, variant: str | None = None
) -> TextEncoder:
    """Load the text encoder of a diffusers pipeline folder on disk.

    Args:
        folder: The pipeline's folder or its `text_encoder` folder, which holds
            `config.json` and `model.safetensors` as transformers writes them.
        dtype: Dtype or dtype policy of the encoder; Keras's default if `None`.
            Weights of any floating dtype are cast to it.
        variant: `"fp16"` loads `model.fp16.safetensors`.

    Returns:
        The encoder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the config is not a CLIP text model's, or the weights are not
            the ones that it asks for; lists names and shapes.

    Example:
    ```python
    encoder = load_clip_text_encoder("stable-diffusion-inpainting", dtype="bfloat16")
    ```
    """
    # Gives NumPy the bfloat16 that safetensors asks it for.
    import ml_dtypes  # noqa: F401
    from safetensors import SafetensorError, safe_open

    inner = os.path.join(folder, "text_encoder")
    folder = inner if os.path.isdir(inner) else folder
    config = read_json(os.path.join(folder, "config.json"))
    name = f"model.{variant}.safetensors" if variant else "model.safetensors"
    path = os.path.join(folder, name)
    try:
        file = safe_open(path, framework="np")
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {error}") from error
    with file:
        shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118
        try:
            return text_encoder_from_tensors(config, shapes, file.get_tensor, dtype)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def text_encoder_from_tensors(
    config: Mapping,
    shapes: Mapping[str, tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    dtype: str | None = None,
) -> TextEncoder:
    """Build a text encoder from tensors named as in transformers.

    All names and shapes are checked before the model is made, and tensors are read
    one at a time.

    Args:
        config: Config of transformers' `CLIPTextModel`.
        shapes: Each tensor's shape, by its name with or without `text_model.`.
        read: Returns the tensor of a name in `shapes`.
        dtype: Dtype or dtype policy of the encoder; Keras's default if `None`.

    Returns:
        The encoder.

    Raises:
        ValueError: If the config is not a CLIP text model's, or tensors are
            missing, left over or of the wrong shape; lists names and shapes.

    Example:
    ```python
    state = {name: t.numpy() for name, t in clip_text_model.state_dict().items()}
    shapes = {name: t.shape for name, t in state.items()}
    encoder = text_encoder_from_tensors(config, shapes, state.__getitem__)
    ```
    """
    _check_config(config)
    names = {name.removeprefix(PREFIX): name for name in shapes}
    names.pop(POSITION_IDS, None)
    weights = list(text_weights(config["num_hidden_layers"]))
    _check_shapes(
        received={name: tuple(shapes[full]) for name, full in names.items()},
        expected={w.name: tuple(config[key] for key in w.shape) for w in weights},
    )
    encoder = text_encoder_from_transformers_config(config, dtype)
    for weight in weights:
        variable = _variable(encoder, weight.path)
        # Half dtypes of NumPy are not known to every backend.
        value = np.asarray(read(names[weight.name]), "float32")
        value = value.T if weight.transposed else value
        variable.assign(value.reshape(variable.shape))
    return encoder


def text_encoder_from_transformers_config(
    config: Mapping, dtype: str | None = None
) -> TextEncoder:
    """Build a text encoder with random weights.

    Args:
        config: Config of transformers' `CLIPTextModel`, as in its `config.json`.
        dtype: Dtype or dtype policy of the encoder; Keras's default if `None`.

    Returns:
        The encoder.

    Raises:
        ValueError: If the config lacks a size, or holds one that no CLIP has.

    Example:
    ```python
    config = transformers.CLIPTextConfig(num_hidden_layers=2).to_dict()
    encoder = text_encoder_from_transformers_config(config)
    ```
    """
    _check_config(config)
    return TextEncoder(
        **{ours: config[theirs] for theirs, (ours, _) in SIZES.items()},
        embedding_dim=config["hidden_size"],
        intermediate_activation=config.get("hidden_act", "quick_gelu"),
        layer_norm_epsilon=config.get("layer_norm_eps", 1e-5),
        dtype=dtype,
    )


def text_encoder_tensors(encoder: TextEncoder) -> dict[str, np.ndarray]:
    """Return an encoder's weights as transformers names and lays them out.

    Args:
        encoder: The encoder.

    Returns:
        float32 arrays, C-contiguous, by their name without `text_model.`.

    Example:
    ```python
    safetensors.numpy.save_file(
        {f"text_model.{k}": v for k, v in text_encoder_tensors(encoder).items()},
        "text_encoder/model.safetensors",
    )
    ```
    """
    sizes = {theirs: getattr(encoder, ours) for theirs, (ours, _) in SIZES.items()}
    tensors = {}
    for weight in text_weights(encoder.num_layers):
        shape = tuple(sizes[key] for key in weight.shape)
        variable = _variable(encoder, weight.path)
        value = keras.ops.convert_to_numpy(keras.ops.cast(variable, "float32"))
        value = value.reshape(shape[::-1]).T if weight.transposed else value
        tensors[weight.name] = np.ascontiguousarray(value.reshape(shape))
    return tensors


def text_weights(num_layers: int) -> Iterable[TextWeight]:
    """List every weight of a text encoder, in full names and paths.

    Args:
        num_layers: Number of transformer layers.

    Yields:
        A `TextWeight` each.
    """
    yield from MODEL_WEIGHTS
    for i in range(num_layers):
        for name, path, shape in LAYER_WEIGHTS:
            yield TextWeight(
                f"encoder.layers.{i}.{name}", f"encoder_layers.{i}.{path}", shape
            )


def _check_config(config: Mapping) -> None:
    for key, (_, limit) in SIZES.items():
        size = config.get(key)
        if type(size) is not int or not 1 <= size <= limit:
            raise ValueError(
                f"expected a CLIP text model's config, with {key} from 1 to {limit}. "
                f"Received: {key}={size!r}"
            )
    if config["hidden_size"] % config["num_attention_heads"]:
        raise ValueError(
            "hidden_size must be a multiple of num_attention_heads. Received: "
            f"hidden_size={config['hidden_size']}, "
            f"num_attention_heads={config['num_attention_heads']}"
        )
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"hidden_act must be one of {ACTIVATIONS}. Received: {activation!r}"
        )
    epsilon = config.get("layer_norm_eps", 1e-5)
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(
            f"layer_norm_eps must be between 0 and 1. Received: {epsilon!r}"
        )


def _check_shapes(
    received: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    missing = [f"{k} {expected[k]}" for k in expected if k not in received]
    surplus = [f"{k} {received[k]}" for k in received if k not in expected]
    misshapen = [
        f"{k} {received[k]} instead of {shape}"
        for k, shape in expected.items()
        if k in received and received[k] != shape
    ]
    problems = {"missing": missing, "surplus": surplus, "misshapen": misshapen}
    if any(problems.values()):
        raise ValueError(
            "the tensors are not those of the CLIP text model in the config. "
            + " ".join(f"{k}: {_listing(v)}." for k, v in problems.items() if v)
        )


def _listing(items: list[str], limit: int = 20) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _variable(encoder: TextEncoder, path: str) -> keras.Variable:
    def step(owner, key):
        return owner[int(key)] if key.isdigit() else getattr(owner, key)

    return functools.reduce(step, path.split("."), encoder)
