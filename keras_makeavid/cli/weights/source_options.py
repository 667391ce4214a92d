"""Options of every command that reads weights."""

from __future__ import annotations

import json
from typing import Any

SOURCE_HELP = (
    "file, folder in our, diffusers' or the hub's layout, or hf://owner/name[@revision]"
)


def add_source_options(parser) -> None:
    """Declare them."""
    parser.add_argument(
        "--variant", help="variant of a diffusers folder's files to prefer, as fp16"
    )
    parser.add_argument(
        "--ema",
        dest="variant",
        action="store_const",
        const="ema",
        help="take the running mean of the weights in a checkpoint of LDM",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="what the source does not tell of its UNet, such as "
        "transformer_epsilon=1e-6 or gelu=exact; may be given again",
    )


def overrides(options) -> dict[str, Any]:
    """The arguments of the UNet that were set.

    Raises:
        ValueError: if one is not `KEY=VALUE`.
    """
    pairs = {}
    for text in options.set:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise ValueError(f"--set takes KEY=VALUE. Received: {text!r}")
        try:
            pairs[key] = json.loads(value)
        except ValueError:
            pairs[key] = value
    return pairs
