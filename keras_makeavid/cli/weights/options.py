"""Options of the commands that read weights, and of those that write them."""

from __future__ import annotations

from typing import Any

from keras_makeavid.json_files import parse_json

SOURCE_HELP = (
    "file, folder in our, diffusers' or the hub's layout, or hf://owner/name[@revision]"
)
# As in `weights_tools`, which the help does not wait for.
LAYOUTS = (
    *("keras", "makeavid_torch", "makeavid_flax", "diffusers", "ldm", "kerascv"),
    *("diffusers_motion", "diffusers_adapter", "animatediff"),
)
DTYPES = ("float32", "float16", "bfloat16")


def add_source_options(option) -> None:
    """Declare the options of a command that reads weights."""
    option("--variant", help="variant of a diffusers folder's files to prefer, as fp16")
    option(
        "--ema",
        dest="variant",
        action="store_const",
        const="ema",
        help="take the running mean of the weights in a checkpoint of LDM",
    )
    option(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="what the source does not tell of its UNet, such as "
        "transformer_epsilon=1e-6 or gelu=exact; may be given again",
    )


def overrides(options) -> dict[str, Any]:
    """The arguments of the UNet that were set, each as `KEY=VALUE`."""
    pairs = {}
    for text in options.set:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise ValueError(f"--set takes KEY=VALUE. Received: {text!r}")
        try:
            pairs[key] = parse_json(value, "--set")
        except ValueError:
            pairs[key] = value
    return pairs


def add_target_options(option) -> None:
    """Declare the options of a command that writes weights."""
    option("source", help=SOURCE_HELP)
    option("out", help="preset folder to write, or a folder or file in another layout")
    option("--layout", choices=LAYOUTS, default="keras", help="layout to write")
    option("--dtype", choices=DTYPES, help="dtype to write; the source's if not given")
    option("--part", help="the one part to take, as unet; all if not given")
    option(
        "--base",
        help="source of the parts that SOURCE does not have, such as the pipeline "
        "that a UNet alone belongs to",
    )
    option("--tokenizer", help="folder of the tokenizer, for a source without one")
    option("--force", action="store_true", help="replace an output that exists")
    add_source_options(option)


def run_with(function, options, **further: Any) -> None:
    """Call `convert` or `inflate` with the options, and say what was written."""
    report = function(
        options.source,
        options.out,
        options.layout,
        dtype=options.dtype,
        part=options.part,
        variant=options.variant,
        overrides=overrides(options),
        base=options.base,
        tokenizer=options.tokenizer,
        force=options.force,
        progress=True,
        **further,
    )
    parts = ", ".join(report.parts)
    print(f"{report.out}: {parts} in layout {report.layout}, {report.nbytes:,} bytes")
    for part, count in report.dropped.items():
        print(
            f"{part}: {count:,} parameters were dropped, which layout "
            f"{report.layout} does not have"
        )
    for part, arguments in report.changed.items():
        others = ", ".join(f"{name} {value!r}" for name, value in arguments.items())
        print(f"{part}: others read layout {report.layout} with {others}")
    for line in report.left_out:
        print(f"left out of the source: {line}")
