"""Recipes from TOML files, with every error at once."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.resources
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_makeavid.recipes.duration import Duration
from keras_makeavid.recipes.schema import Recipe, Stage

# What a stage takes from the recipe, key by key, where it says nothing itself.
_SHARED = ("data", "loss", "optimizer")


class RecipeError(ValueError):
    """What is wrong with a recipe, all of it."""


def load_recipe(recipe: str | os.PathLike, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        recipe: path of a TOML file, or the name of a recipe of this package, such as
            `"tempofunk"`.
        overrides: keys to set differently, each `"key=value"`, such as
            `"data.batch_size=2"` or `"stage.warm.length=1 epoch"`; `stage.*` is all
            stages. Values are TOML; other text is a string.

    Raises:
        FileNotFoundError: if there is no such recipe.
        RecipeError: if it is wrong; names every key, what it was and what is allowed.

    Example:
    ```python
    recipe = load_recipe("tempofunk", ["run.seed=1"])
    recipe.stage[0].learning_rate.peak  # 5e-05
    ```
    """
    name, content = _read_file(recipe)
    try:
        values = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name} is not TOML: {error}") from error
    return recipe_from_dict(values, overrides, name)


def recipe_from_dict(
    values: dict[str, Any], overrides: Sequence[str] = (), name: str = "The recipe"
) -> Recipe:
    """Make a recipe of a dict, as TOML gives it.

    Args:
        values: tables and keys.
        overrides: as in `load_recipe`.
        name: what to call it in errors.

    Raises:
        RecipeError: if it is wrong.

    Example:
    ```python
    recipe_from_dict({
        "run": {"folder": "run"},
        "model": {"preset": "preset"},
        "data": {"source": "dataset"},
        "stage": [
            {"name": "all", "length": "1 epoch", "learning_rate": {"peak": 1e-4}}
        ],
    })
    ```
    """
    errors = []
    for override in overrides:
        values = _overridden(values, override, errors)
    recipe = None if errors else _read_recipe(values, errors)
    if errors:
        raise RecipeError("\n".join([f"{name} has {_count(errors)}:", *errors]))
    return recipe


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON holds it.

    Example:
    ```python
    recipe_as_dict(load_recipe("tempofunk"))["model"]["dtype"]  # 'mixed_bfloat16'
    ```
    """

    def plain(value):
        if isinstance(value, Duration):
            return str(value)
        if dataclasses.is_dataclass(value):
            fields = dataclasses.fields(value)
            return {field.name: plain(getattr(value, field.name)) for field in fields}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    return plain(recipe)


def packaged_recipes() -> list[str]:
    """The names of the recipes that come with the package.

    Example:
    ```python
    packaged_recipes()
    ```
    """
    files = importlib.resources.files(__package__).iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".toml"))


def _read_file(recipe):
    path = Path(recipe)
    if path.is_file():
        try:
            return str(path), path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not UTF-8 text: {error}") from error
    if str(recipe) in packaged_recipes():
        file = importlib.resources.files(__package__) / f"{recipe}.toml"
        return str(recipe), file.read_text(encoding="utf-8")
    raise FileNotFoundError(
        f"There is no recipe {recipe}: expected a .toml file or one of "
        f"{', '.join(packaged_recipes())}"
    )


def _overridden(values, override, errors):
    """A copy of `values` with one key set."""
    key, equals, value = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts) or len(parts) < 2:
        errors.append(
            f"--set takes table.key=value, such as data.batch_size=2. Received: "
            f"{override!r}"
        )
        return values
    try:
        value = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        value = value.strip()
    if parts[0] != "stage":
        return _with(values, parts, value)
    stages = values.get("stage")
    stages = stages if isinstance(stages, list) else []
    names = [stage.get("name") for stage in stages if isinstance(stage, dict)]
    if len(parts) < 3 or (parts[1] != "*" and parts[1] not in names):
        errors.append(
            f"--set stage.NAME.key=value takes one of the stages {names} or *. "
            f"Received: {override!r}"
        )
        return values
    chosen = [
        _with(stage, parts[2:], value)
        if parts[1] in ("*", stage.get("name"))
        else stage
        for stage in stages
    ]
    return {**values, "stage": chosen}


def _with(values, parts, value):
    first, *rest = parts
    if rest:
        inner = values.get(first, {})
        value = _with(inner if isinstance(inner, dict) else {}, rest, value)
    return {**values, first: value}


def _read_recipe(values, errors):
    top = {key: value for key, value in values.items() if key != "stage"}
    recipe = _read_table(Recipe, top, "", errors, skip="stage")
    stages = values.get("stage")
    if not isinstance(stages, list) or not stages:
        errors.append(
            f"stage must be a list of tables, [[stage]]. Received: {stages!r}"
        )
        return None
    stages = [
        _read_stage(stage, values, f"stage.{_name(stage, number)}", errors)
        for number, stage in enumerate(stages, start=1)
    ]
    names = [stage.name for stage in stages if stage]
    for name in sorted({name for name in names if names.count(name) > 1}):
        errors.append(f"stage.{name}: the names of stages must differ")
    return None if errors else dataclasses.replace(recipe, stage=tuple(stages))


def _name(stage, number):
    name = stage.get("name") if isinstance(stage, dict) else None
    return name if isinstance(name, str) else number


def _read_stage(stage, values, path, errors):
    """A stage, its shared tables filled up with the recipe's."""
    if not isinstance(stage, dict):
        errors.append(f"{path} must be a table. Received: {stage!r}")
        return None
    own = {key: stage[key] for key in _SHARED if isinstance(stage.get(key), dict)}
    filled = {
        key: {**_as_dict(values.get(key)), **own.get(key, {})}
        for key in _SHARED
        if key in own or key not in stage
    }
    lora = {"lora": {}} if stage.get("trainable") == "lora" else {}
    found = []
    read = _read_table(Stage, {**lora, **stage, **filled}, path, found)
    # What is wrong in the recipe's own tables is said there.
    for error in found:
        said = error.removeprefix(f"{path}.")
        table = said.partition(".")[0]
        if table not in filled or (own.get(table) and said not in errors):
            errors.append(error)
    return read


def _as_dict(value):
    return value if isinstance(value, dict) else {}


def _read_table(kind, values, path, errors, skip=None):
    """An instance of the dataclass `kind`, or `None` with its errors noted."""
    if not isinstance(values, dict):
        errors.append(f"{path} must be a table. Received: {values!r}")
        return None
    before = len(errors)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    errors += [
        _unknown(_join(path, key), key, fields) for key in values if key not in fields
    ]
    read = {
        name: _read_field(field, values, _join(path, name), errors)
        for name, field in fields.items()
        if name != skip
    }
    if len(errors) > before:
        return None
    instance = kind(**read, **({skip: ()} if skip else {}))
    for key, problem in getattr(instance, "problems", tuple)():
        errors.append(f"{_join(path, key)} {problem}")
    return instance


def _read_field(field, values, path, errors):
    if "table" in field.metadata:
        kind = field.metadata["table"]
        if field.name not in values and field.default is None:
            return None
        return _read_table(kind, values.get(field.name, {}), path, errors)
    rule = field.metadata["rule"]
    if field.name not in values:
        if field.default is dataclasses.MISSING:
            errors.append(f"{path} is missing: {rule.says}")
        return field.default
    try:
        return rule.read(values[field.name])
    except ValueError:
        errors.append(f"{path} must be {rule.says}. Received: {values[field.name]!r}")
        return None


def _unknown(path, key, known):
    nearest = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}"
    return f"{path} is unknown: {hint}"


def _join(path, key):
    return f"{path}.{key}" if path else key


def _count(errors):
    return "an error" if len(errors) == 1 else f"{len(errors)} errors"
