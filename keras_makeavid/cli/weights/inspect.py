"""Tell the layout and the content of a checkpoint, without loading it."""

from __future__ import annotations

import dataclasses
import json

from keras_makeavid.cli.weights.options import (
    SOURCE_HELP,
    add_source_options,
    overrides,
)

EXAMPLE = "makeavid weights inspect sd-v1-5-inpainting.ckpt"


def add_arguments(option) -> None:
    """Declare the options."""
    option("source", help=SOURCE_HELP)
    option("--json", action="store_true", help="print JSON")
    add_source_options(option)


def run(options) -> None:
    """Print what each part is."""
    import weights_tools

    parts = weights_tools.inspect(
        options.source, variant=options.variant, overrides=overrides(options)
    )
    if options.json:
        facts = {part: dataclasses.asdict(found) for part, found in parts.items()}
        print(json.dumps({**facts, "left_out": parts.left_out}, indent=2))
        return
    for part, found in parts.items():
        kind = {"unet": "video" if found.video else "image"}.get(found.kind, "")
        print(f"{part}: {found.layout} {kind}".rstrip())
        print(f"  file: {found.path}")
        print(f"  parameters: {found.parameters:,}")
        if found.video:
            print(f"  temporal parameters: {found.temporal_parameters:,}")
        if found.motion:
            middle = "a" if found.config["motion_mid_block"] else "no"
            print(
                f"  motion modules: AnimateDiff {found.motion}, positions for "
                f"{found.config['motion_positions']} frames, {middle} middle module"
            )
        print(f"  dtypes: {', '.join(found.dtypes)}")
        for key, value in found.config.items():
            print(f"  {key}: {value}")
    for line in parts.left_out:
        print(f"left out: {line}")
