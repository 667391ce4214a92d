"""Programs compiled for eight virtual devices of this machine, in their own process."""

import json
import os
import subprocess
import sys

import keras
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.config.backend() != "jax", reason="plans are of JAX programs"
    ),
]

PROGRAM = """
import json, math, re, sys

import jax, keras

from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.planning import plan, programs
from keras_makeavid.recipes import recipe_from_dict
from keras_makeavid.training.distribution import make_distribution

programs.unet_maker = lambda preset: lambda: UNetPseudo3D(
    block_channels=(32,), attention_levels=(True,), layers_per_block=1, groups=4,
    num_heads=2, context_dim=16,
)
SIZES = programs.Sizes(32, 32, tokens=5)
COLLECTIVE = r" = (.*?) (all-[a-z]+|reduce-scatter|collective-permute)(?:-start)?[(]"

def collectives(text):
    # Float32 numbers of the results of collectives, by kind.
    found = {}
    for shape, kind in re.findall(COLLECTIVE, text):
        for sizes in re.findall(r"f32[[]([0-9,]*)[]]", shape):
            count = math.prod(int(size) for size in sizes.split(",") if size)
            found[kind] = found.get(kind, 0) + count
    return found

def answer(stage, **tables):
    recipe = recipe_from_dict({
        "run": {"folder": "run"},
        "model": {"preset": "nowhere"},
        "data": {"source": "nowhere", "batch_size": 8, "frames": 3},
        "stage": [{"name": "one", "length": "5 steps",
                   "learning_rate": {"peak": 1e-4}, **stage}],
        **tables,
    })
    (stage,) = recipe.stage
    with make_distribution(recipe.distribution).scope():
        model = programs.training_model(recipe, stage, SIZES)
        lowered = programs.lower_training_step(model, stage, 8, SIZES)
        sent = collectives(lowered.compile().as_text())
        state = plan.training_state(model)
        values = [v.value for v in programs.variables_of(model)]
        allocated = sum(isinstance(value, jax.Array) for value in values)
    count = lambda variables: sum(math.prod(v.shape) for v in variables)
    return {
        "sent": sent,
        "trainable": count(model.trainable_variables),
        "parameters": count(model.variables),
        "state_bytes": {kind: size * 2**30 for kind, size in state.items()},
        "allocated": allocated,
    }

answers = {
    "temporal": answer({}, distribution={}),
    "averages": answer(
        {"trainable": "all", "optimizer": {"ema": 0.99}}, distribution={"fsdp": 8}
    ),
    "distillation": answer(
        {"trainable": "all", "objective": "distillation"}, distribution={}
    ),
}
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_nothing_of_a_plan_is_in_memory(answers):
    assert all(answer["allocated"] == 0 for answer in answers.values())


def test_gradients_of_what_trains_are_all_reduced_and_no_others(answers):
    answer = answers["temporal"]
    assert answer["trainable"] < 0.5 * answer["parameters"]
    # The rest is the loss.
    assert 0 <= answer["sent"]["all-reduce"] - answer["trainable"] < 150
    assert set(answer["sent"]) == {"all-reduce"}


def test_a_teacher_and_an_average_are_planned_too(answers):
    answer = answers["distillation"]
    own = answer["trainable"]
    # Beside them stand the text states of the empty prompt.
    assert 3 * own <= answer["parameters"] < 3 * own + 100


def test_the_state_is_counted_by_its_kind(answers):
    replicated = answers["temporal"]["state_bytes"]
    trainable = answers["temporal"]["trainable"]
    assert replicated["averages"] == 0
    assert 8 * trainable <= replicated["optimizer"] < 8 * trainable + 100


def test_a_part_of_the_state_is_on_each_device(answers):
    answer = answers["averages"]
    whole = 4 * answer["parameters"]
    assert whole / 8 < answer["state_bytes"]["averages"] < whole / 5
    assert "all-gather" in answer["sent"]
