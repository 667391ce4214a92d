"""Make a video preset of a Stable Diffusion 1.x image model."""

from __future__ import annotations

from keras_makeavid.cli.weights.options import add_target_options, run_with

EXAMPLE = "makeavid weights inflate sd-v1-5-inpainting.ckpt PRESET"


def add_arguments(option) -> None:
    """Declare the options."""
    add_target_options(option)
    option(
        "--motion",
        help="AnimateDiff's motion modules, to add in place of pseudo-3D parts: file, "
        "folder or hf:// repository of them, or v1, v2 or v3 for new ones",
    )


def run(options) -> None:
    """Write, and say what was written."""
    import weights_tools

    run_with(weights_tools.inflate, options, motion=options.motion)
