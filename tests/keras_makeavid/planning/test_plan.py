"""Plans by the real compiler for TPUs, of a tiny model."""

import importlib.util
import json
from xml.etree import ElementTree

import keras
import pytest

from keras_makeavid import planning
from keras_makeavid.cli import main
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.planning import (
    find_topology,
    plan_lines,
    plan_training,
    programs,
    topology,
)
from keras_makeavid.planning.estimate import Estimate, compile_and_estimate
from keras_makeavid.planning.plan import (
    Plan,
    advice,
    find_stage,
    plan_as_json,
    roofline,
)
from keras_makeavid.recipes import load_recipe

SLOW = {
    **{"fits": True, "hbm_gib": 27.0, "tflop": 40.0, "attention_tflop": 10.0},
    **{"arguments_gib": 12.0, "output_gib": 0.0, "temporaries_gib": 15.0},
    **{"gb_moved": 5000.0, "compute_seconds": 50 / 275},
    **{"memory_seconds": 5000 / 1200},
}
SETTINGS = ["data.frames=3", "model.dtype=float32"]
needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None or keras.config.backend() != "jax",
    reason="needs libtpu and JAX",
)


@pytest.fixture
def tiny_unet(monkeypatch):
    def make():
        return UNetPseudo3D(
            block_channels=(32,),
            attention_levels=(True,),
            layers_per_block=1,
            groups=4,
            num_heads=2,
            context_dim=16,
        )

    monkeypatch.setattr(programs, "unet_maker", lambda preset: make)


def estimated(**changes):
    recipe = load_recipe("tempofunk", changes.pop("settings", ()))
    numbers = {"fits": False, "hbm_gib": 40.0, "compile_seconds": 1.0, **changes}
    return Plan(
        "training step",
        recipe,
        recipe.stage[0],
        find_topology("v4-8"),
        1,
        "a model",
        {"parameters": 4.0, "optimizer": 8.0},
        Estimate(**numbers),
    )


@needs_compiler
@pytest.mark.parametrize("topology", ["v4-8", "v5e-4"])
def test_a_training_and_a_sampling_step_are_compiled_for_a_tpu(
    tiny_unet, capsys, topology, tmp_path
):
    words = ["plan", "tempofunk", "--topology", topology, "--json"]
    words += ["--height", "64", "--width", "64"]
    words += ["--picture", str(tmp_path / "roofline.svg")]
    for setting in SETTINGS:
        words += ["--set", setting]
    assert main(words) == 0
    training = json.loads(capsys.readouterr().out)
    for plan in (training, training["sampling"]):
        assert plan["fits"] is True
        assert plan["batch_per_chip"] == 1
        assert 0 < plan["attention_tflop"] < plan["tflop_in_all"] < 0.1
        parts = plan["tflop"] + plan["attention_tflop"]
        assert plan["tflop_in_all"] == pytest.approx(parts)
        assert 0 < plan["gb_moved"] < 10
        # So few lie in faster memory.
        assert 0 <= plan["temporaries_gib"] < 1
        assert plan["step_seconds_estimate"] == max(
            plan[f"{kind}_seconds"] for kind in ("compute", "memory")
        )
    assert training["state_gib"] > training["sampling"]["state_gib"]
    drawing = ElementTree.parse(tmp_path / "roofline.svg").getroot()
    assert sum(part.tag.endswith("circle") for part in drawing) == 2


@needs_compiler
def test_a_batch_that_the_chips_cannot_share_is_refused(tiny_unet):
    recipe = load_recipe("tempofunk", ["data.batch_size=3"])
    with pytest.raises(ValueError, match="multiple of the number of devices, 4"):
        plan_training(recipe, find_topology("v4-8"))


@pytest.mark.skipif(keras.config.backend() != "jax", reason="errors are JAX's")
@pytest.mark.parametrize(
    ("told", "gib"),
    [
        ("Ran out of memory in memory space hbm. Used 0.5T of 30.75G hbm.", 512),
        (
            "Ran out of memory on HBM, the total memory required for HLO temporaries "
            "(32.45G) exceeds available HBM (30.75G).",
            32.45,
        ),
    ],
)
def test_a_program_that_the_compiler_finds_too_large_does_not_fit(told, gib):
    import jax

    class Program:
        def compile(self):
            raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {told}")

    found = compile_and_estimate(Program(), find_topology("v4-8"))
    assert (found.fits, found.hbm_gib, found.tflop) == (False, gib, None)


def test_what_does_not_fit_says_what_to_change():
    plan = estimated()
    text = "\n".join(plan_lines(plan))
    assert "40.00 of 30.75 GiB: DOES NOT FIT" in text
    assert "distribution.fsdp=4" in text
    assert "model.rematerialise=true" in text
    assert plan_as_json(plan)["step_seconds_estimate"] is None


def test_the_roofline_has_each_program_where_its_bound_is():
    # Ten operations a byte: what memory allows is 12 of the chip's 275 TFLOP/s.
    slow, unknown = plan_as_json(estimated(**SLOW)), plan_as_json(estimated())
    text = roofline([slow, unknown])
    drawing = ElementTree.fromstring(text.replace(" xmlns=", " was="))
    (dot,) = drawing.iter("circle")
    roof = drawing.findall("path")[1].get("d")
    assert roof.startswith(f"M{dot.get('cx')} {dot.get('cy')}L")
    assert "training step: 50 TFLOP, at least 4.17 s" in text
    assert "v4-8: TFLOP/s of a chip" in text


def test_the_command_writes_the_roofline_into_a_file(monkeypatch, tmp_path, capsys):
    plan, path = estimated(**SLOW), tmp_path / "roofline.svg"
    monkeypatch.setattr(planning, "plan_training", lambda *_: plan, raising=False)
    monkeypatch.setattr(topology, "check_compiler", lambda: None)
    words = ["plan", "tempofunk", "--topology", "v4-8", "--program", "training"]
    assert not main([*words, "--picture", str(path)])
    assert path.read_text() == roofline([plan_as_json(plan)])
    assert "a step takes at least 4.167 s" in capsys.readouterr().out
    assert main([*words, "--picture", str(tmp_path / "nowhere" / "a.svg")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_what_is_done_already_is_not_advised():
    settings = ["distribution.fsdp=4", "model.rematerialise=true"]
    assert advice(estimated(settings=settings)).startswith("more memory")


def test_what_goes_further_is_advised():
    plan = estimated(settings=["model.rematerialise=feed_forward"])
    assert "model.rematerialise=true" in advice(plan)


def test_the_longer_of_arithmetic_and_memory_is_the_time():
    plan = estimated(
        fits=True,
        hbm_gib=20.0,
        tflop=25.5,
        attention_tflop=2.0,
        gb_moved=300.0,
        arguments_gib=6.0,
        output_gib=0.0,
        temporaries_gib=14.0,
        compute_seconds=0.1,
        memory_seconds=0.25,
    )
    assert plan_as_json(plan)["step_seconds_estimate"] == 0.25
    text = "\n".join(plan_lines(plan))
    assert "a step takes at least 0.250 s" in text
    assert "27.50 TFLOP    0.100 s at the chip's peak (2.00 of it attention)" in text


def test_a_stage_that_is_not_there_is_told_those_that_are():
    with pytest.raises(ValueError, match="stages 1, 2, 3, 4, 5"):
        find_stage(load_recipe("tempofunk"), "6")
