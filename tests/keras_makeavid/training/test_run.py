import json
import os
import runpy
import shutil
import signal
import sys

import keras
import numpy as np
import orbax.checkpoint
import pytest
from keras import ops
from run_datasets import write_dataset

import weights_tools
from keras_makeavid import TextToVideo, video
from keras_makeavid.training import (
    TrainingFailed,
    read_metrics,
    run_folder,
    set_trainable,
    train,
)
from keras_makeavid.training.run_folder import RunFolder

not_tensorflow = pytest.mark.skipif(
    keras.config.backend() == "tensorflow",
    reason="compiling takes long; states are read and written as under PyTorch",
)


def lines(run):
    return list(read_metrics(os.path.join(run.folder, "metrics.jsonl")))


def last_checkpoint(result):
    """The arrays of the newest checkpoint, as they are on the disk."""
    folder = max((result.folder / "checkpoints").iterdir())
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        return {
            k: np.asarray(v) for k, v in checkpointer.restore(folder / "state").items()
        }


def weights(preset):
    unet = TextToVideo.from_preset(str(preset)).backbone
    return {v.path: ops.convert_to_numpy(v) for v in unet.variables}


def assert_same_run(a, b):
    """Both runs have the same metrics, weights and state, to the bit."""
    metrics = [run.folder.joinpath("metrics.jsonl").read_bytes() for run in (a, b)]
    assert metrics[0] == metrics[1]
    states = [last_checkpoint(run) for run in (a, b)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][name], err_msg=name)


ALL_OF_IT = {
    "loss": {
        "caption_dropout": 0.2,
        "min_snr_gamma": 5.0,
        "given_frames": {"repeated every 2": 1.0},
    },
    "optimizer": {"ema": 0.9, "accumulate": 2},
    "checkpoints": {"every": "7 steps", "keep": 2},
    "stage": [
        {
            "name": "only",
            "length": "10 epochs",
            "learning_rate": {"peak": 1e-2, "warmup": "1 epoch", "decay": "cosine"},
        }
    ],
}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    make_recipe, stop_at, tmp_path
):
    recipe = make_recipe(**ALL_OF_IT)
    stop_at(10)
    stopped = train(recipe)
    assert (stopped.steps, stopped.signal) == (10, signal.SIGTERM)
    assert stopped.preset is None
    assert [line["step"] for line in lines(stopped)] == list(range(1, 11))

    finished = train(recipe, resume="auto")
    assert (finished.steps, finished.signal) == (30, None)
    whole = train(make_recipe(**ALL_OF_IT, run={"folder": str(tmp_path / "whole")}))
    assert_same_run(finished, whole)
    presets = [weights(result.preset) for result in (finished, whole)]
    for name, value in presets[0].items():
        np.testing.assert_array_equal(value, presets[1][name], err_msg=name)


@pytest.mark.once
def test_a_signal_at_the_end_of_a_stage_leaves_a_checkpoint_of_it(
    make_recipe, stop_at, capfd
):
    stage = {"length": "5 steps", "learning_rate": {"peak": 1e-2}}
    recipe = make_recipe(stage=[{**stage, "name": "a"}, {**stage, "name": "b"}])
    stop_at(5)
    stopped = train(recipe)
    assert (stopped.steps, stopped.signal) == (5, signal.SIGTERM)
    assert "--resume auto continues at step 5" in capfd.readouterr().err
    assert train(recipe, resume="auto").steps == 10


@pytest.mark.once
def test_files_of_a_run_have_the_mode_that_the_umask_says(make_recipe):
    umask = os.umask(0)
    os.umask(umask)
    result = train(make_recipe(logs={"tensorboard": True}))
    files = [path for path in result.folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"recipe.json", "metrics.jsonl"}
    modes = {str(path): path.stat().st_mode & 0o777 for path in files}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)


@pytest.mark.once
def test_stages_follow_one_another_and_train_what_they_say(make_recipe, preset):
    rate = {"peak": 1e-2}
    stages = [
        {"name": "t", "length": "3 steps", "repeats": 2, "learning_rate": rate},
        {
            "name": "up",
            "length": "1 epoch",
            "learning_rate": rate,
            "trainable": "up_blocks",
            "data": {"batch_size": 3},
        },
    ]
    recipe = make_recipe(stage=stages, optimizer={"ema": 0.5})
    result = train(recipe)
    found = lines(result)
    assert [line["stage"] for line in found] == (
        ["t, run 1"] * 3 + ["t, run 2"] * 3 + ["up"] * 2
    )
    assert [line["epoch"] for line in found] == [1, 1, 1, 1, 1, 1, 1, 1]
    assert [line["data_step"] for line in found] == list(range(8))
    before, after = weights(preset), weights(result.preset)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {n for n in before if "temporal" in n or "up_blocks" in n}


@not_tensorflow
def test_a_stage_of_adapters_leaves_a_merged_preset(make_recipe, preset):
    stage = {
        "name": "clips",
        "trainable": "lora",
        "length": "4 steps",
        "learning_rate": {"peak": 1e-1},
        "lora": {"rank": 2, "layers": "attn_temporal"},
    }
    after_it = {"name": "all", "length": "2 steps", "learning_rate": {"peak": 1e-9}}
    result = train(
        make_recipe(stage=[stage, after_it], optimizer={"weight_decay": 0, "ema": 0.1})
    )
    before, after = weights(preset), weights(result.preset)
    assert before.keys() == after.keys()
    moved = {n for n in before if not np.allclose(before[n], after[n], atol=1e-6)}
    assert moved
    assert all("attn_temporal/to_" in name for name in moved)


@pytest.mark.once
@pytest.mark.parametrize(
    ("form", "repeats", "stages"),
    [
        *((form, 1, 1) for form in weights_tools.LORA_FORMS),
        ("diffusers", 2, 1),
        ("diffusers", 1, 2),
    ],
)
def test_the_adapters_of_the_last_stages_are_a_file_for_the_preset_before(
    make_recipe, preset, form, repeats, stages, tmp_path
):
    stage = {
        "name": "clips",
        "trainable": "lora",
        "length": "2 steps",
        "learning_rate": {"peak": 1e-1},
        "lora": {"rank": 2, "alpha": 3.0},
        "repeats": repeats,
    }
    stage = [{**stage, "name": f"clips {number}"} for number in range(stages)]
    result = train(make_recipe(stage=stage, optimizer={"ema": 0.1}))
    file = tmp_path / "style.safetensors"
    made = result.folder / "lora.safetensors"
    weights_tools.convert_lora(made, file, form, base=preset)
    task = TextToVideo.from_preset(preset)
    task.load_lora(file)
    expected = TextToVideo.from_preset(result.preset).backbone.get_weights()
    moved = 0
    before = TextToVideo.from_preset(preset).backbone.get_weights()
    for old, one, other in zip(
        before, task.backbone.get_weights(), expected, strict=True
    ):
        moved += (old != other).any()
        np.testing.assert_allclose(one, other, atol=1e-6)
    # Three attentions of four layers.
    assert moved == 12


@pytest.mark.once
def test_bfloat16_computes_with_float32_parameters(make_recipe, preset, finished_run):
    result = train(
        make_recipe(model={"dtype": "mixed_bfloat16", "rematerialise": True})
    )
    losses = [
        [line["loss"] for line in read_metrics(folder / "metrics.jsonl")]
        for folder in (result.folder, finished_run)
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
    assert (np.abs(np.divide(*losses) - 1) > 1e-6).all()
    state = last_checkpoint(result)
    trained = [v for name, v in state.items() if name.startswith("trainable")]
    assert {value.dtype.name for value in trained} == {"float32"}
    # Two moments of what trains, and of nothing else.
    optimizer = [v for name, v in state.items() if name.startswith("optimizer")]
    moments = sum(value.size for value in optimizer if value.ndim)
    assert moments == 2 * sum(value.size for value in trained)
    # The preset computes as it did before.
    configs = [
        json.loads((folder / "config.json").read_text())["config"]["dtype"]
        for folder in (preset, result.preset)
    ]
    assert configs[0] == configs[1]


# What is not finite.


@pytest.mark.once
def test_a_run_with_spoiled_clips_finishes(make_recipe, tmp_path):
    dataset = write_dataset(tmp_path / "spoiled", clips=6, spoiled=[2])
    result = train(make_recipe(data={"source": str(dataset), "batch_size": 1}))
    found = lines(result)
    skipped = [line["skipped"] for line in found]
    # Each clip once an epoch.
    assert [sum(skipped[i : i + 6]) for i in range(0, 24, 6)] == [1, 1, 1, 1]
    assert found[-1]["skipped_total"] == 4
    assert all((line["loss"] is None) == line["skipped"] for line in found)
    assert all(np.isfinite(value).all() for value in weights(result.preset).values())


GUARD = {"patience": 2, "lr_factor": 0.5, "max_rollbacks": 100}


@pytest.mark.once
def test_after_bad_steps_in_a_row_it_rolls_back_and_moves_past_them(
    make_recipe, tmp_path, capfd
):
    dataset = write_dataset(tmp_path / "spoiled", clips=6, spoiled=[1, 3])
    recipe = make_recipe(
        data={"source": str(dataset), "batch_size": 1},
        guard=GUARD,
        checkpoints={"every": "3 steps", "keep": 9},
    )
    result = train(recipe)
    found = lines(result)
    assert [line["step"] for line in found] == list(range(1, 25))
    rollbacks = json.loads((result.folder / "rollbacks.json").read_text())
    assert len(rollbacks) == found[-1]["rollbacks"] > 0
    # Two bad steps in a row are in no stretch that was kept.
    skipped = [line["skipped"] for line in found]
    assert not any(a and b for a, b in zip(skipped, skipped[1:], strict=False))
    first = rollbacks[0]
    assert first["to_step"] % 3 == 0
    (line,) = (line for line in found if line["step"] == first["to_step"] + 1)
    assert line["data_step"] == first["past_data_step"] + 1
    assert [line["skipped"] for line in first["lines"][-2:]] == [True, True]
    peak = recipe.stage[0].learning_rate.peak
    assert np.isclose(found[-1]["lr"], peak * 0.5 ** len(rollbacks))
    assert f"back to step {first['to_step']}" in capfd.readouterr().err


@pytest.mark.once
def test_a_signal_before_a_roll_back_changes_nothing_of_it(
    make_recipe, stop_at, tmp_path
):
    dataset = write_dataset(tmp_path / "spoiled", clips=6, spoiled=[1, 3])
    tables = {
        "data": {"source": str(dataset), "batch_size": 1},
        "guard": GUARD,
        "checkpoints": {"every": "4 steps", "keep": 1},
    }
    whole = train(make_recipe(**tables, run={"folder": str(tmp_path / "whole")}))
    rollbacks = (whole.folder / "rollbacks.json").read_bytes()
    last_bad = json.loads(rollbacks)[0]["from_step"]
    # Before the bad steps, and between them.
    for step in (last_bad - 2, last_bad - 1):
        assert step % 4
        recipe = make_recipe(**tables, run={"folder": str(tmp_path / str(step))})
        stop_at(step)
        stopped = train(recipe)
        assert stopped.steps == step
        assert (stopped.folder / "checkpoints" / f"{step:08}").is_dir()
        finished = train(recipe, resume="auto")
        assert_same_run(finished, whole)
        assert (finished.folder / "rollbacks.json").read_bytes() == rollbacks


@pytest.mark.once
def test_it_gives_up_with_a_report_after_the_last_roll_back(make_recipe, tmp_path):
    dataset = write_dataset(tmp_path / "spoiled", clips=6, spoiled=range(6))
    recipe = make_recipe(
        data={"source": str(dataset)}, guard={**GUARD, "max_rollbacks": 2}
    )
    with pytest.raises(TrainingFailed, match=r"after 2 roll-backs: see .*report.json"):
        train(recipe)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [r["past_data_step"] for r in report["rollbacks"]] == [1, 3]
    assert report["data_step"] == 5
    # It can go on with more of them.
    recipe = make_recipe(
        data={"source": str(dataset)}, guard={"patience": 3, "max_rollbacks": 3}
    )
    with pytest.raises(TrainingFailed, match="after 3 roll-backs"):
        train(recipe, resume="auto")


# Checkpoints that are not there.


@pytest.mark.once
def test_a_corrupt_newest_checkpoint_is_reported_and_the_one_before_used(
    make_recipe, tmp_path, capfd
):
    recipe = make_recipe(checkpoints={"every": "4 steps"})
    train(recipe)
    expected = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    newest = tmp_path / "run" / "checkpoints" / "00000012"
    files = [path for path in newest.rglob("*") if path.is_file()]
    os.truncate(max(files, key=lambda path: path.stat().st_size), 10)
    capfd.readouterr()
    result = train(recipe, resume="auto")
    assert "Checkpoint 12 cannot be read" in capfd.readouterr().err
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == expected
    assert newest.is_dir()
    assert result.steps == 12


@pytest.mark.once
def test_a_run_from_before_a_key_was_there_goes_on(make_recipe, stop_at):
    stop_at(3)
    assert train(make_recipe()).preset is None
    folder = RunFolder(make_recipe().run.folder)
    stored = json.loads(folder.recipe.read_text())
    del stored["loss"]["full_mask_share"]
    for stage in stored["stage"]:
        del stage["objective"], stage["loss"]["kl_weight"]
    folder.recipe.write_text(json.dumps(stored))
    assert train(make_recipe(), resume="auto").preset is not None


@pytest.mark.once
def test_if_no_checkpoint_can_be_read_that_is_told(make_recipe, finished_run, tmp_path):
    recipe = make_recipe()
    shutil.copytree(finished_run, tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        (checkpoint / "facts" / "metadata").write_text("{")
    metrics = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(TrainingFailed, match=r"No checkpoint in .*run can be read"):
            train(recipe, resume="auto")
    # Nor does it begin anew where they are gone.
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(TrainingFailed, match=r"put one of this run back into"):
        train(recipe, resume="auto")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == metrics


@pytest.mark.once
def test_a_full_disk_is_reported_and_training_goes_on(
    make_recipe, small_disk, at_each_step, fill_disk, tmp_path, capfd
):
    tables = {**ALL_OF_IT, "logs": {"tensorboard": True, "every": 1}}
    recipe = make_recipe(**tables, run={"folder": str(small_disk / "run")})
    filler = small_disk / "filler"
    # From then on always: deleting old checkpoints makes room again.
    at_each_step(lambda step: fill_disk(filler) if step > 8 else None)
    with pytest.raises(OSError, match="No space left on device"):
        # The trained preset is what it cannot do without.
        train(recipe)
    said = capfd.readouterr().err
    assert "could not be written: " in said
    assert "No space left on device" in said
    assert "metrics.jsonl cannot be written for now" in said
    assert "TensorBoard's files cannot be written for now" in said

    at_each_step(lambda step: None)
    filler.unlink()
    assert len(lines(recipe.run)) < 30
    finished = train(recipe, resume="auto")
    whole = train(make_recipe(**ALL_OF_IT, run={"folder": str(tmp_path / "whole")}))
    assert_same_run(finished, whole)


# Logs and samples.


@pytest.mark.once
def test_samples_are_files_and_in_tensorboard(make_recipe, hint, tmp_path):
    picture = tmp_path / "hint.png"
    video.write_image(picture, hint)
    result = train(
        make_recipe(
            logs={"tensorboard": True, "every": 4},
            samples={
                "prompts": ["a cat"],
                "hints": [str(picture)],
                "every": "2 epochs",
                "steps": 1,
                "guidance": 1.0,
            },
            optimizer={"ema": 0.5},
        )
    )
    paths = sorted((result.folder / "samples").rglob("*.mp4"))
    assert [path.parent.name for path in paths] == ["step-00000006", "step-00000012"]
    assert video.probe(paths[0]).num_frames == 3

    events = read_events(result.folder / "tensorboard")
    assert set(events[4]) == {
        *("loss", "learning_rate", "gradient_norm", "skipped_total"),
        "epoch",
    }
    assert set(events[8]) - set(events[4]) == {"steps_per_second"}
    by_step = {line["step"]: line for line in lines(result)}
    assert np.isclose(events[8]["loss"], by_step[8]["loss"])
    assert np.isclose(events[12]["learning_rate"], by_step[12]["lr"])
    # One tag, so that TensorBoard shows the prompt's videos over the steps.
    assert all(events[step]["samples/a cat"][:4] == b"GIF8" for step in (6, 12))


def read_events(folder):
    """What TensorFlow reads of TensorBoard's files: values by name by step."""
    import tensorflow as tf

    found = {}
    for path in sorted(folder.iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                shown = value.image.encoded_image_string or value.simple_value
                found.setdefault(event.step, {})[value.tag] = shown
    return found


@not_tensorflow
def test_preset_and_samples_have_the_averaged_weights(make_recipe, tmp_path):
    result = train(
        make_recipe(
            optimizer={"ema": 0.9},
            samples={"prompts": ["a cat"], "every": "4 epochs", "steps": 1},
        )
    )
    state = last_checkpoint(result)
    task = TextToVideo.from_preset(str(result.preset))
    set_trainable(task.backbone, "temporal")
    trained = task.backbone.trainable_variables
    last = [state[f"trainable.{number:05}"] for number in range(len(trained))]
    for variable, value in zip(trained, last, strict=True):
        average = ops.convert_to_numpy(variable)
        assert not np.array_equal(average, value)
        assert any(
            np.array_equal(average, other)
            for name, other in state.items()
            if name.startswith("optimizer")
        )

    def sample(name):
        # Guidance and frames a second are the preset's own.
        frames = task.generate("a cat", num_frames=3, num_steps=1, seed=0)[0]
        video.write_video(tmp_path / name, frames, task.fps)
        return (tmp_path / name).read_bytes()

    (written,) = (result.folder / "samples").rglob("*.mp4")
    assert written.read_bytes() == sample("averaged.mp4")
    for variable, value in zip(trained, last, strict=True):
        variable.assign(value)
    assert written.read_bytes() != sample("last.mp4")


# What is refused.


def test_a_folder_that_holds_a_run_or_something_else_is_refused(make_recipe, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "diary.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds something that is no run"):
        train(make_recipe())
    (folder / "recipe.json").write_text("{}")
    with pytest.raises(FileExistsError, match="--resume auto"):
        train(make_recipe())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "recipe.json is not JSON"),
        (b'{"run": {"fol', "recipe.json is not JSON"),
        ("{}".encode("utf-16-le"), r"recipe.json is in UTF-16.* save it as UTF-8"),
        (b"[1, 2]", "recipe.json must hold a JSON object.* Received: \\[1, 2\\]"),
        (b'{"run": 1, "run": 2}', "recipe.json is not JSON: the name 'run' stands"),
        ("{}".encode("utf-16"), "recipe.json is in UTF-16"),
        (None, "recipe.json is missing"),
        ("a folder", "recipe.json"),
    ],
)
def test_a_recipe_of_a_run_that_is_damaged_or_missing_is_told(
    make_recipe, tmp_path, content, problem
):
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    if content == "a folder":
        (folder / "recipe.json").mkdir()
    elif content is not None:
        (folder / "recipe.json").write_bytes(content)
    told = rf"{problem}.*\. To continue the run, put back the recipe\.json"
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        RunFolder(folder).check(make_recipe(), resume=True)


@pytest.mark.parametrize("stored", [{}, {"stage": 1}, {"run": [], "stage": [1]}])
def test_a_recipe_of_a_run_that_says_something_else_is_not_this_one(
    make_recipe, tmp_path, stored
):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.recipe.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="is not that of the run in"):
        folder.check(make_recipe(), resume=True)


def test_a_folder_where_another_process_trains_is_refused(make_recipe, tmp_path):
    recipe = make_recipe()
    with (
        RunFolder(recipe.run.folder).begun(recipe),
        pytest.raises(RuntimeError, match="Another process trains in"),
    ):
        train(recipe, resume="auto")


@pytest.mark.once
def test_what_a_kill_left_in_the_folder_is_removed(make_recipe, tmp_path):
    folder = tmp_path / "run"
    (folder / ".0123.part").mkdir(parents=True)
    (folder / ".4567.part").write_text("half")
    result = train(make_recipe())
    assert not list(result.folder.glob(".*.part"))


@pytest.mark.once
def test_a_preset_that_a_kill_took_away_is_put_back(make_recipe, tmp_path):
    recipe, folder = make_recipe(), RunFolder(tmp_path / "run")
    # As a kill between two renames leaves it, with an older one that was not removed.
    for number, name in enumerate((".preset.0123.old", ".preset.4567.old")):
        (folder.path / name).mkdir(parents=True)
        (folder.path / name / "task.json").write_text(name)
        os.utime(folder.path / name, (number, number))
    (folder.path / ".preset.89ab.part").mkdir()
    for _ in range(2):
        with folder.begun(recipe):
            pass
        assert (folder.preset / "task.json").read_text() == ".preset.4567.old"
        assert not list(folder.path.glob(".preset.*"))


def test_a_run_is_continued_by_its_own_recipe_only(make_recipe, finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    changed = make_recipe(
        data={"batch_size": 3, "workers": 2},
        checkpoints={"keep": 9, "every": "5 steps"},
        guard={"patience": 3},
        run={"seed": 1},
    )
    with pytest.raises(ValueError, match="is not that of the run") as caught:
        train(changed, resume="auto")
    told = str(caught.value)
    assert "data.batch_size was 2 and is 3; run.seed was 0 and is 1" in told
    assert "workers" not in told
    assert "keep" not in told


ONE_EPOCH = {"name": "only", "length": "1 epoch", "learning_rate": {"peak": 1e-3}}
COSINE = {"peak": 1e-3, "warmup": "3 steps", "decay": "cosine"}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"data": {"source": "nowhere"}}, "nowhere"),
        ({"data": {"frames": 99}}, "99 frames"),
        ({"model": {"preset": "nowhere"}}, "nowhere"),
        ({"data": {"batch_size": 99}}, "batch_size"),
        ({"samples": {"prompts": ["a"], "hints": ["nowhere.png"]}}, "nowhere.png"),
        (
            {"stage": [{**ONE_EPOCH, "trainable": "banana"}]},
            "stage.only: No layer's path matches trainable='banana'",
        ),
        (
            {"stage": [{**ONE_EPOCH, "trainable": "lora", "lora": {"layers": "ban"}}]},
            "stage.only: No layer's path matches layers='ban'",
        ),
        (
            {"stage": [{**ONE_EPOCH, "learning_rate": COSINE}]},
            "stage.only.learning_rate.warmup of 3 steps is 3 steps, and 2 of",
        ),
    ],
)
def test_what_is_missing_is_told_before_anything_is_written(
    make_recipe, tables, message, tmp_path
):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(make_recipe(**tables))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("package", ["grain", "orbax", "tensorboardX"])
def test_a_package_that_is_missing_is_told_before_anything_is_read(
    make_recipe, monkeypatch, package
):
    monkeypatch.setitem(sys.modules, package, None)
    recipe = make_recipe(data={"source": "nowhere"}, logs={"tensorboard": True})
    with pytest.raises(ImportError, match=rf"needs {package}: .*makeavid\[train\]"):
        train(recipe)


def test_what_windows_has_not_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    runpy.run_path(run_folder.__file__)


def test_data_of_another_model_is_refused(make_recipe, tmp_path, run_dataset):
    path = tmp_path / "other" / "data"
    write_dataset(tmp_path / "other", clips=2)
    for file in (path / "prompts").iterdir():
        np.save(file, np.zeros((1, 5, 16), "float32"))
    with pytest.raises(ValueError, match=r"text states \(5, 16\); those of the preset"):
        train(make_recipe(data={"source": str(tmp_path / "other")}))
    for file in (path / "videos").iterdir():
        np.save(file, np.zeros((3, 8, 2, 2), "float32"))
    with pytest.raises(ValueError, match="latents of 8 channels"):
        train(make_recipe(data={"source": str(tmp_path / "other")}))
