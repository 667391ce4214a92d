import json
import subprocess
import sys

import pytest

from keras_makeavid.recipes import (
    Duration,
    RecipeError,
    load_recipe,
    recipe_as_dict,
    recipe_from_dict,
)

SMALLEST = """
[run]
folder = "run"
[model]
preset = "preset"
[data]
source = "dataset"
[[stage]]
name = "only"
length = "2 epochs"
learning_rate = { peak = 1e-4 }
"""


@pytest.fixture
def smallest(tmp_path):
    path = tmp_path / "smallest.toml"
    path.write_text(SMALLEST)
    return path


def problems(path, *overrides):
    """The lines of the error, without its heading."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    heading, *lines = str(caught.value).splitlines()
    assert heading.startswith(str(path))
    return lines


def test_what_is_left_out_has_its_default(smallest):
    recipe = load_recipe(smallest)
    (stage,) = recipe.stage
    assert stage.trainable == "temporal"
    assert stage.length == Duration(2.0, "epochs")
    assert (stage.data.batch_size, stage.data.frames) == (1, 24)
    assert stage.optimizer.weight_decay == 0.02
    assert stage.lora is None
    assert recipe.samples is None
    assert recipe.guard.patience == 10


def test_a_stage_takes_what_it_does_not_say_from_the_recipe(smallest):
    shared = ("data.batch_size=2", "optimizer.ema=0.5", "loss.kl_weight=3")
    own = ("stage.only.data.batch_size=4", "stage.only.optimizer.clip_norm=2")
    (stage,) = load_recipe(smallest, (*shared, *own)).stage
    assert (stage.data.batch_size, stage.data.source) == (4, "dataset")
    assert (stage.optimizer.ema, stage.optimizer.clip_norm) == (0.5, 2.0)
    assert stage.loss.kl_weight == 3


def test_every_error_is_told_at_once_with_key_value_and_what_is_allowed(smallest):
    found = problems(
        smallest,
        "data.batch_size=0",
        "data.bach_size=2",
        "model.dtype=float16",
        "logs.tensorboard=yes",
        "logs.every=1.5",
        "run.seed=true",
        "stage.only.length=2 weeks",
        "stage.only.optimizer.ema=1",
        "stage.only.trainable='(['",
        "banana.colour=yellow",
    )
    assert sorted(found) == sorted(
        [
            "banana is unknown: known: run, model, data, stage, loss, optimizer, "
            "guard, checkpoints, logs, samples, distribution",
            "data.batch_size must be a whole number of at least 1. Received: 0",
            "data.bach_size is unknown: did you mean batch_size?",
            "model.dtype must be one of 'float32', 'mixed_bfloat16'. "
            "Received: 'float16'",
            "logs.tensorboard must be true or false. Received: 'yes'",
            "logs.every must be a whole number of at least 1. Received: 1.5",
            "run.seed must be a whole number of at least 0. Received: True",
            "stage.only.length must be a duration such as '2 epochs', '0.5 epochs' or "
            "'1000 steps' above 0. Received: '2 weeks'",
            "stage.only.optimizer.ema must be a number, at least 0 and below 1. "
            "Received: 1",
            "stage.only.trainable must be 'temporal', 'spatial', 'all', 'lora' or a "
            "regular expression on the paths of layers. Received: '(['",
        ]
    )


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (
            ["stage.only.learning_rate.final=1"],
            "stage.only.learning_rate.final must be at most the peak, 0.0001. "
            "Received: 1",
        ),
        (
            ["stage.only.learning_rate.final=1e-5"],
            "stage.only.learning_rate.final must be 0 with decay = 'constant'. "
            "Received: 1e-05",
        ),
        (
            ["stage.only.learning_rate.warmup=3 epochs"],
            "stage.only.learning_rate.warmup must be at most the length, 2 epochs. "
            "Received: 3 epochs",
        ),
        (
            ["stage.only.lora.rank=4"],
            "stage.only.lora goes with trainable = 'lora'. Received: 'temporal'",
        ),
        (
            ["data.samples_per_epoch=2", "data.batch_size=3"],
            "data.batch_size must be at most samples_per_epoch, 2. Received: 3",
        ),
        (
            ["data.batch_size=3", "stage.only.data.samples_per_epoch=2"],
            "stage.only.data.batch_size must be at most samples_per_epoch, 2. "
            "Received: 3",
        ),
        (
            ["samples.prompts=[]"],
            "samples.prompts must have at least one prompt. Received: none",
        ),
        (
            ["samples.prompts=['a','b']", "samples.hints=['c.png']"],
            "samples.hints must be one for each of the 2 prompts. Received: 1",
        ),
    ],
)
def test_keys_that_do_not_fit_one_another_are_told(smallest, overrides, problem):
    assert problem in problems(smallest, *overrides)


def test_missing_keys_are_told(tmp_path):
    path = tmp_path / "empty.toml"
    path.write_text("")
    assert problems(path) == [
        "run.folder is missing: a string that is not empty",
        "model.preset is missing: a string that is not empty",
        "data.source is missing: a string that is not empty",
        "stage is missing: a list of tables, [[stage]]",
    ]


def test_an_error_of_the_shared_tables_is_not_told_again_by_each_stage(smallest):
    assert len(problems(smallest, "data.frames=0")) == 1
    own = "stage.only.data.workers=2"
    assert len(problems(smallest, own, "data.frames=0")) == 1


@pytest.mark.parametrize(
    "override", ["data", "data=3", "=3", "stage.other.length=1 step", "stage.length=1"]
)
def test_an_override_of_no_key_is_refused(smallest, override):
    (problem,) = problems(smallest, override)
    assert repr(override) in problem


def test_overrides_are_toml_or_else_text(smallest):
    overrides = (
        "run.folder=some/where",
        "run.seed=7",
        "samples.prompts=['a cat', 'a dog']",
        "stage.*.length=5 steps",
        "data.source='with=equals'",
    )
    recipe = load_recipe(smallest, overrides)
    assert (recipe.run.folder, recipe.run.seed) == ("some/where", 7)
    assert recipe.samples.prompts == ("a cat", "a dog")
    assert recipe.stage[0].length.steps(100) == 5
    assert recipe.data.source == "with=equals"


def test_lora_has_defaults_and_keys(smallest):
    (stage,) = load_recipe(smallest, ["stage.only.trainable=lora"]).stage
    assert (stage.lora.rank, stage.lora.alpha) == (8, 8.0)


def test_names_of_stages_must_differ(smallest):
    smallest.write_text(SMALLEST + SMALLEST[SMALLEST.index("[[stage]]") :])
    assert problems(smallest) == [
        "stage.only must be the name of one stage. Received: a name of 2"
    ]


DEEP = {
    "arrays": "a = " + "[" * 5000 + "]" * 5000,
    "arrays without end": "a = " + "[" * 100_000,
    "tables": "a = " + "{a = " * 5000 + "1" + "}" * 5000,
    "65 arrays": "a = " + "[" * 65 + "]" * 65,
    "a name": ".".join("a" * 100_000) + " = 1",
    "a quoted name": " . ".join(['"a"'] * 100_000) + " = 1",
    "a table": f"[{'.'.join('a' * 100_000)}]",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_nests_too_deeply_is_refused(smallest, text):
    smallest.write_text(text)
    with pytest.raises(RecipeError, match="smallest.toml is not TOML: it is nested"):
        load_recipe(smallest)


@pytest.mark.parametrize("override", ["run.seed=" + "[" * 5000, ".".join("a" * 5000)])
def test_overrides_have_a_bound_too(smallest, override):
    with pytest.raises(RecipeError, match="Received: ") as caught:
        load_recipe(smallest, [f"{override}=1"])
    assert len(str(caught.value)) < 500


def test_a_file_that_is_not_toml_is_refused_with_its_line(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[run\n")
    with pytest.raises(RecipeError, match=r"broken.toml is not TOML: .*line 1"):
        load_recipe(path)
    path.write_bytes(b"\xff\xff")
    with pytest.raises(RecipeError, match="not in UTF-8"):
        load_recipe(path)


def test_a_recipe_as_windows_writes_it_is_read(smallest):
    expected = load_recipe(smallest)
    text = SMALLEST.replace("\n", "\r\n")
    smallest.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_recipe(smallest) == expected
    smallest.write_bytes(text.encode("utf-16"))
    with pytest.raises(RecipeError, match=r"smallest.toml is in UTF-16"):
        load_recipe(smallest)


def test_a_recipe_that_is_not_there_names_those_that_are():
    with pytest.raises(FileNotFoundError, match="one of cpu, one_gpu, tempofunk"):
        load_recipe("banana")


def test_as_dict_is_json_that_makes_the_same_recipe(smallest):
    recipe = load_recipe(smallest, ["samples.prompts=['a']", "stage.only.repeats=2"])
    assert recipe_from_dict(json.loads(json.dumps(recipe_as_dict(recipe)))) == recipe


@pytest.mark.parametrize("values", [None, [], "text", {"stage": [[], None]}])
def test_what_is_no_recipe_at_all_is_refused(values):
    with pytest.raises(
        RecipeError, match=r"(?s)run.json has .*must be a table. Received"
    ):
        recipe_from_dict(values, name="run.json")
    with pytest.raises(RecipeError):
        recipe_from_dict(values, ["run.seed=2", "stage.*.length=1 step"])


def test_reading_needs_no_heavy_import(smallest):
    program = (
        "import sys; from keras_makeavid.recipes import load_recipe\n"
        f"load_recipe({str(smallest)!r})\n"
        "assert not {'numpy', 'keras', 'jax'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
