"""Convert a file of adapters (LoRA) to the form of kohya or of diffusers."""

from __future__ import annotations

EXAMPLE = "makeavid weights lora runs/lora/lora.safetensors style.safetensors"


def add_arguments(option) -> None:
    """Declare the options."""
    option("source", help="file of adapters, or a folder of diffusers or PEFT with one")
    option("out", help="file to write, .safetensors")
    # As `weights_tools.LORA_FORMS`, which the help does not wait for.
    option(
        "--form",
        choices=("diffusers", "kohya"),
        default="diffusers",
        help="form to write",
    )
    option(
        "--base",
        help="preset or other source of the model that the adapters are for; Stable "
        "Diffusion 1.5 if not given",
    )
    option("--force", action="store_true", help="replace an output that exists")


def run(options) -> None:
    """Write, and say what was written."""
    import weights_tools

    layers = weights_tools.convert_lora(
        options.source,
        options.out,
        options.form,
        base=options.base,
        force=options.force,
    )
    print(f"{options.out}: adapters of {layers} layers in the form of {options.form}")
