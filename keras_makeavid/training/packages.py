"""Optional packages that a run needs."""

from __future__ import annotations

import importlib.util

from keras_makeavid.recipes import Recipe


def check_packages(recipe: Recipe) -> None:
    """See that all packages that a recipe needs are installed.

    Args:
        recipe: of the run.

    Raises:
        ImportError: if some are missing; names them and how to install them.

    Example:
    ```python
    check_packages(load_recipe("cpu"))
    ```
    """
    extras = {"grain": "train", "orbax.checkpoint": "train"}
    if recipe.logs.tensorboard:
        extras["tensorboardX"] = "train"
    if recipe.logs.wandb is not None:
        extras["wandb"] = "wandb"
    missing = [name for name in extras if not _is_installed(name)]
    if missing:
        wanted = ",".join(sorted({extras[name] for name in missing}))
        raise ImportError(
            f"The recipe needs {', '.join(missing)}: "
            f"pip install 'keras-makeavid[{wanted}]'"
        )


def _is_installed(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        # It is in a package that is missing.
        return False
