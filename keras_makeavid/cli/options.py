"""Options that several commands have, and what they ask of them."""

from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.validation import check_least


def add_sampling_options(option) -> None:
    """Declare the options of a command that generates videos."""
    option("--preset", default=DEFAULT_PRESET, help="folder or handle of a preset")
    option("--steps", default=20, help="sampling steps")
    option("--guidance", type=float, help="weight of the prompt; else the preset's")


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
