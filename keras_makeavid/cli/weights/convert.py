"""Convert a checkpoint from any layout to another."""

from __future__ import annotations

from keras_makeavid.cli.weights.options import add_target_options, run_with

EXAMPLE = "makeavid weights convert hf://TempoFunk/makeavid-sd-jax PRESET"


def add_arguments(option) -> None:
    """Declare the options."""
    add_target_options(option)


def run(options) -> None:
    """Write, and say what was written."""
    import weights_tools

    run_with(weights_tools.convert, options)
