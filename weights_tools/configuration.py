"""Configurations in JSON that nobody vouches for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weights_tools.formats import FormatError

# A configuration is some thousand bytes; it is read into memory whole.
_MOST_BYTES = 2**20

# What an architecture of this family stays far below. A hostile configuration must
# not decide how long we compute.
_MOST_ENTRIES = 64
_SIZE = ((int,), 2**17)
# Of latents, whose sides in pixels are some times more.
_SIDE = ((int,), 2**12)
_COUNT = ((int,), _MOST_ENTRIES)
_FRACTION = ((int, float), 1)

# Types and largest value of each argument; all numbers are above 0.
_ONE = {
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels"), _SIZE),
    **dict.fromkeys(("context_dim", "groups", "num_heads"), _SIZE),
    **dict.fromkeys(("vocabulary_size", "max_sequence_length"), _SIZE),
    **dict.fromkeys(("embedding_dim", "hidden_dim", "intermediate_dim"), _SIZE),
    **dict.fromkeys(("height", "width", "num_frames"), _SIZE),
    "guidance_scale": ((int, float), None),
    "fps": ((int, float), 2**17),
    **dict.fromkeys(("layers_per_block", "num_layers"), _COUNT),
    **dict.fromkeys(("epsilon", "transformer_epsilon"), _FRACTION),
    "layer_norm_epsilon": _FRACTION,
    "scaling_factor": ((int, float), 2**17),
    **dict.fromkeys(("gelu", "intermediate_activation"), ((str,), None)),
    "temporal": ((bool,), None),
}

# The same for each entry of those that are lists.
_MANY = {
    "block_channels": _SIZE,
    "num_heads": _SIZE,
    "attention_levels": ((bool,), None),
}


def read_config(path: Path) -> dict[str, Any]:
    """Read a `config.json`.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if it is missing.
        ValueError: if it is no JSON object, or too large for one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration at {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise FormatError(path, "is larger than a configuration can be")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise FormatError(path, f"is not a JSON file: {error}") from error
    if not isinstance(config, dict):
        raise FormatError(path, f"must hold an object. Received: {config!r:.80}")
    return config


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Makes any error in what a file says one that names the file.

    Args:
        path: the file.

    Raises:
        FormatError: instead of what the block raises.
    """
    try:
        yield
    except (FormatError, OSError):
        raise
    except ValueError as error:
        raise FormatError(path, str(error)) from error
    except Exception as error:
        # What libraries answer to JSON of another shape than theirs is of any kind.
        reason = f"is not understood: {type(error).__name__}: {error}"
        raise FormatError(path, reason) from error


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what is the new model's own affair.

    Args:
        config: arguments of a model, of Keras or Flax.
    """
    own = ("name", "trainable", "dtype", "param_dtype")
    return {key: value for key, value in config.items() if key not in own}


def check_arguments(kind: str, arguments: Mapping[str, Any]) -> None:
    """Check that the arguments of a model are of their types, and no size is absurd.

    Args:
        kind: what they are the arguments of, for the text of the error.
        arguments: the arguments; those unknown are not looked at.

    Raises:
        ValueError: if one is not; names it.

    Example:
    ```python
    check_arguments("unet", {"context_dim": 768})  # "wide" would be refused
    ```
    """
    for key, value in arguments.items():
        if key in _MANY and isinstance(value, list | tuple):
            if not 0 < len(value) <= _MOST_ENTRIES:
                raise ValueError(
                    f"{key} of a {kind} must have 1 to at most {_MOST_ENTRIES} "
                    f"entries. Received: {len(value)}"
                )
            for entry in value:
                _check(f"{key} of a {kind}", entry, *_MANY[key])
        elif key in _ONE:
            _check(f"{key} of a {kind}", value, *_ONE[key])
        elif key in _MANY:
            raise ValueError(
                f"{key} of a {kind} must be a list. Received: {value!r:.80}"
            )


def check_size(sides: Any) -> None:
    """Check that `sides` are two whole numbers that no picture is larger than.

    Raises:
        ValueError: if they are not.
    """
    if len(sides) != 2:
        raise ValueError(f"A size has two sides. Received: {sides!r:.80}")
    for side in sides:
        _check("A side of a sample", side, *_SIDE)


def check_names(config: Mapping[str, Any], key: str) -> None:
    """Check that an entry of a configuration is a list of names.

    Args:
        config: the configuration.
        key: the entry, which must be there.

    Raises:
        ValueError: if it is anything else.
    """
    value = config[key]
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) for name in value
    ):
        raise ValueError(f"{key} must be a list of names. Received: {value!r:.80}")


def _check(what, value, types, most):
    # Exactly these types: True is a number too, for Python.
    if type(value) not in types:
        names = " or ".join(allowed.__name__ for allowed in types)
        raise ValueError(f"{what} must be of type {names}. Received: {value!r:.80}")
    if most is not None and not 0 < value <= most:
        raise ValueError(
            f"{what} must be above 0 and at most {most}. Received: {value!r:.80}"
        )
