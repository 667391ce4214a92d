"""Train by a recipe: stages, checkpoints, logs and the trained preset."""

import sys

from keras_makeavid.cli.options import add_recipe_options

EXAMPLE = (
    "makeavid train cpu --set model.preset=PRESET --set data.source=dataset "
    "--resume auto"
)
# Continued as it is, the run would come to the same end.
GAVE_UP = 3
PROCESS_LOST = 4


def add_arguments(option) -> None:
    """Declare the options."""
    examples = "data.batch_size=2 or stage.NAME.length='2 epochs' (stage.* for all)"
    add_recipe_options(option, examples)
    option(
        "--resume",
        choices=("never", "auto"),
        default="never",
        help="auto: continue the run in the recipe's folder, if there is one",
    )
    option(
        "--allow-other-encoder",
        default=False,
        help="train on a dataset that another VAE or text encoder made",
    )


def prepare(options) -> None:
    """Refuse a wrong recipe."""
    from keras_makeavid.recipes import load_recipe

    load_recipe(options.recipe, options.set)


def run(options) -> int:
    """Train; the exit code is 0 when the preset is written.

    It is 3 if training gave up, 4 if another process of the run is gone, 128 and the
    signal's number (143 for SIGTERM) if one ended it, with a checkpoint. JAX makes 134
    (SIGABRT) of 4 where it finds the other process gone while this one ends, or waits.
    """
    from keras_makeavid.training import ProcessLost, TrainingFailed, train

    overrides, resume = options.set, options.resume
    try:
        result = train(options.recipe, overrides, resume, options.allow_other_encoder)
    except (TrainingFailed, ProcessLost) as error:
        print(f"makeavid train: {error}", file=sys.stderr)
        return GAVE_UP if isinstance(error, TrainingFailed) else PROCESS_LOST
    if result.signal is not None:
        return 128 + result.signal
    if result.process == 0:
        print(result.preset)
    return 0
