"""Recipes from TOML files, with every error at once."""

import contextlib
import importlib.resources
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from keras_makeavid.files import StrPath, read_text
from keras_makeavid.given_frames import GivenFrames
from keras_makeavid.json_files import check_levels
from keras_makeavid.recipes.schema import Duration, Recipe
from keras_makeavid.validation import ValidationError, shown, validate

# What a stage takes from the recipe, key by key, where it says nothing itself.
_SHARED = ("data", "loss", "optimizer")
_MOST_BYTES = 2**20
_MOST_PARTS = 32
_LONG_NAME = re.compile(r"""(?<!["'\w-])(?:["'\w-]+\s*\.\s*){32}""")


class RecipeError(ValueError):
    """What is wrong with a recipe, all of it."""


def load_recipe(recipe: StrPath, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, with a default for every key that is left out.

    Args:
        recipe: Path of a TOML file, or a name in this package, such as `"tempofunk"`.
        overrides: Keys to set differently, each `"key=value"`, such as
            `"data.batch_size=2"` or `"stage.warm.length=1 epoch"`. `stage.*` is all
            stages. Values are TOML. Other text is a string.

    Raises:
        FileNotFoundError: There is no such recipe.
        RecipeError: It is wrong: every key, what is allowed and what was received.

    Example:
    ```python
    recipe = load_recipe("tempofunk", ["run.seed=1"])
    recipe.stage[0].learning_rate.peak  # 5e-05
    ```
    """
    path = Path(recipe)
    if not path.is_file():
        if str(recipe) not in packaged_recipes():
            raise FileNotFoundError(
                f"There is no recipe {recipe}: expected a .toml file or one of "
                f"{', '.join(packaged_recipes())}"
            )
        path = _packaged(f"{recipe}.toml")
    try:
        text = read_text(path, _MOST_BYTES)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    try:
        values = _parsed(text)
    except ValueError as error:
        raise RecipeError(f"{recipe} is not TOML: {error}") from error
    return recipe_from_dict(values, overrides, str(recipe))


def recipe_from_dict(
    values: dict[str, Any], overrides: Sequence[str] = (), name: str = "The recipe"
) -> Recipe:
    """Make a recipe out of a dict, as TOML and JSON give it; `None` is a key left out.

    Overrides are as in `load_recipe`, and a `RecipeError` calls it by its `name`.

    Example:
    ```python
    stage = {"name": "all", "length": "1 epoch", "learning_rate": {"peak": 1e-4}}
    recipe_from_dict({
        "run": {"folder": "run"}, "model": {"preset": "preset"},
        "data": {"source": "dataset"}, "stage": [stage],
    })
    ```
    """
    try:
        values = _overridden(values, overrides)
        return validate(_filled(values), Recipe, name)
    except ValidationError as error:
        problems = _each_once(error.problems)
        raise RecipeError(str(ValidationError(name, problems))) from error


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """Give the recipe as JSON holds it, for `recipe_from_dict` to make it again.

    Example:
    ```python
    recipe_as_dict(load_recipe("tempofunk"))["model"]["dtype"]  # 'mixed_bfloat16'
    ```
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Duration):
            return str(value)
        if isinstance(value, GivenFrames):
            return dict(value.shares)
        if isinstance(value, msgspec.Struct):
            fields = msgspec.structs.asdict(value)
            return {name: plain(field) for name, field in fields.items()}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return plain(recipe)


def packaged_recipes() -> list[str]:
    """List the names of the recipes that come with the package, sorted."""
    return sorted(path.stem for path in _packaged("").glob("*.toml"))


def _parsed(text: str) -> dict[str, Any]:
    """Values of TOML, unless they nest deeper than any recipe."""
    # `tomllib` takes long for names of thousands of parts.
    if not _LONG_NAME.search(text):
        with contextlib.suppress(RecursionError):
            values = tomllib.loads(text)
            check_levels(values)
            return values
    raise ValueError("it is nested too deeply")


def _packaged(name: str) -> Path:
    return Path(str(importlib.resources.files(__package__))) / name


def _overridden(values: Any, overrides: Sequence[str]) -> Any:
    problems: list[str] = []
    for override in overrides:
        try:
            values = _with_override(values, override)
        except ValueError as error:
            problems.append(f"{error} Received: {shown(override)}")
    if problems:
        raise ValidationError("", problems)
    return values


def _with_override(values: Any, override: str) -> Any:
    """A copy of `values` with one key set."""
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts) or not 2 <= len(parts) <= _MOST_PARTS:
        raise ValueError("--set takes table.key=value, such as data.batch_size=2.")
    try:
        value = _parsed(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    if parts[0] != "stage":
        return _with(values, parts, value)
    stages = _as_dict(values).get("stage")
    stages = stages if isinstance(stages, list) else []
    names = [_as_dict(stage).get("name") for stage in stages]
    if len(parts) < 3 or (parts[1] != "*" and parts[1] not in names):
        raise ValueError(
            f"--set stage.NAME.key=value takes one of the stages {names} or *."
        )
    chosen = [
        _with(stage, parts[2:], value) if parts[1] in ("*", name) else stage
        for stage, name in zip(stages, names, strict=True)
    ]
    return {**values, "stage": chosen}


def _with(values: Any, parts: list[str], value: Any) -> dict[str, Any]:
    first, *rest = parts
    if rest:
        value = _with(_as_dict(values).get(first), rest, value)
    return {**_as_dict(values), first: value}


def _filled(values: Any) -> Any:
    """The recipe with each stage's shared tables filled up with its own."""
    stages = _as_dict(values).get("stage")
    if not isinstance(stages, list):
        return values
    return {**values, "stage": [_filled_stage(stage, values) for stage in stages]}


def _filled_stage(stage: Any, values: Mapping[str, Any]) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    shared = {
        key: {**_as_dict(values.get(key)), **_as_dict(stage.get(key))}
        for key in _SHARED
        if isinstance(stage.get(key, {}), Mapping)
    }
    lora: dict[str, Any] = {"lora": {}} if stage.get("trainable") == "lora" else {}
    return {**lora, **stage, **shared}


def _each_once(problems: Sequence[str]) -> list[str]:
    """Problems, less those that stages have from the tables that they share."""
    told = {problem for problem in problems if not problem.startswith("stage.")}
    return [
        problem
        for problem in problems
        if not any(
            problem.startswith("stage.") and problem.endswith(f".{one}") for one in told
        )
    ]


def _as_dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
