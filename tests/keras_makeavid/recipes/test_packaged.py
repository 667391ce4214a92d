import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from keras_makeavid.recipes import (
    load_recipe,
    packaged_recipes,
    recipe_from_dict,
    schema,
)

ROOT = Path(__file__).parents[3]


def test_the_published_recipe_is_the_specification_s():
    recipe = load_recipe("tempofunk")
    rows = []
    for stage in recipe.stage:
        rate = stage.learning_rate
        rows.append(
            (
                f"{stage.repeats} x {stage.length}",
                stage.data.samples_per_epoch,
                str(rate.warmup),
                rate.peak,
                rate.decay,
                rate.final,
            )
        )
    assert rows == [
        ("2 x 10 epochs", 10_000, "1 epoch", 5e-5, "constant", 0.0),
        ("2 x 20 epochs", 10_000, "1 epoch", 5e-5, "constant", 0.0),
        ("1 x 9 epochs", 10_000, "1 epoch", 5e-5, "cosine", 1e-8),
        ("1 x 5 epochs", 17_000, "0.5 epochs", 2.5e-5, "constant", 0.0),
        ("1 x 5 epochs", 17_000, "0.5 epochs", 5e-6, "cosine", 2.5e-6),
    ]
    for stage in recipe.stage:
        adam = stage.optimizer
        assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.9, 0.999, 1e-8)
        assert (adam.weight_decay, adam.clip_norm) == (0.02, 1.0)
        assert (adam.accumulate, adam.ema) == (1, 0.0)
        # One sample on each of four chips.
        assert (stage.data.batch_size, stage.data.frames) == (4, 24)
        assert stage.loss.given_frames is None
        assert stage.loss.caption_dropout == 0.0
    assert recipe.model.dtype == "mixed_bfloat16"
    assert [stage.trainable for stage in recipe.stage] == ["temporal"] * 3 + ["all"] * 2


def test_the_published_recipe_has_about_200_000_updates():
    updates = sum(
        stage.repeats
        * stage.length.steps(stage.data.samples_per_epoch // stage.data.batch_size)
        for stage in load_recipe("tempofunk").stage
    )
    assert updates == 215_000


@pytest.mark.parametrize("name", packaged_recipes())
def test_a_recipe_s_header_states_cost_hardware_and_result(name):
    path = ROOT / "keras_makeavid" / "recipes" / f"{name}.toml"
    header = path.read_text().split("\n[")[0]
    for word in ("# Cost ", "# Hardware ", "# Result "):
        assert word in header
    assert load_recipe(path) == load_recipe(name)


def test_the_recipes_are_in_the_package():
    assert packaged_recipes() == ["cpu", "one_gpu", "tempofunk"]


GUIDE = (ROOT / "docs" / "train.md").read_text()


def test_the_guide_tells_of_every_key_with_its_default():
    def keys(name, table):
        for field in msgspec.structs.fields(table):
            inner = {
                "learning_rate": schema.LearningRate,
                "lora": schema.Lora,
                "distillation": schema.Distillation,
            }.get(field.name)
            if inner is not None:
                yield from keys(f"{name}.{field.name}", inner)
            elif name != "stage" or field.name not in ("data", "loss", "optimizer"):
                default = "required" if field.required else str(field.default)
                yield f"{name}.{field.name}", default.strip("()") or "None"

    tables = {
        field.name: getattr(schema, field.name.replace("_", " ").title())
        for field in msgspec.structs.fields(schema.Recipe)
    }
    expected = {k: v for name, table in tables.items() for k, v in keys(name, table)}
    told = dict(re.findall(r"^\| `([\w.]+)` \| (.+?) \|", GUIDE, re.MULTILINE))
    assert told.keys() == expected.keys()
    for key, default in expected.items():
        value = told[key].strip('`"')
        if default == "None":
            # Left out, a key of the samples is what the preset says.
            assert value in ("none", "the preset's"), key
            continue
        assert value.lower() == default.lower(), key


def test_the_recipe_of_the_guide_is_one():
    text = re.search(r"<<'TOML'\n(.*?)^TOML$", GUIDE, re.MULTILINE | re.DOTALL)[1]
    recipe = recipe_from_dict(tomllib.loads(text))
    assert [stage.trainable for stage in recipe.stage] == ["temporal", "all"]
