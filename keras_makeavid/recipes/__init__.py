"""Recipes: what a training is, as data in TOML files, checked before anything runs."""

from keras_makeavid.recipes.reading import (
    RecipeError,
    load_recipe,
    packaged_recipes,
    recipe_as_dict,
    recipe_from_dict,
)
from keras_makeavid.recipes.schema import Distribution, Duration, Recipe

__all__ = [
    "Distribution",
    "Duration",
    "Recipe",
    "RecipeError",
    "load_recipe",
    "packaged_recipes",
    "recipe_as_dict",
    "recipe_from_dict",
]
