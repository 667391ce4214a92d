"""Options that several commands have, and what they ask of them."""

import argparse

from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.validation import check_least


def add_sampling_options(option, few_steps: str = "") -> None:
    """Declare the options of a command that generates videos.

    `few_steps` says when few steps are taken if nothing is said of it.
    """
    option("--preset", default=DEFAULT_PRESET, help="folder or handle of a preset")
    option("--steps", type=int, help="sampling steps; the preset's if not given")
    option("--guidance", type=float, help="weight of the prompt; else the preset's")
    option(
        "--few-steps",
        action=argparse.BooleanOptionalAction,
        help=f"load the preset's adapter for few steps without guidance{few_steps}",
    )


def add_recipe_options(option, example: str) -> None:
    """Declare the options of a command that reads a recipe."""
    option("recipe", help="a .toml file, or the name of a recipe of this package")
    option(
        "--set",
        default=[],
        metavar="KEY=VALUE",
        help=f"set a key of the recipe differently, such as {example}",
    )


def check_at_least_one(options, *names: str) -> None:
    """Refuse counts below 1; those that were not given are left alone."""
    check_least(1, **{f"--{name}": getattr(options, name) for name in names})
