import os

import numpy as np
import pytest

from keras_makeavid.training.checkpoints import CheckpointError, Checkpoints

STATE = {
    "weights": np.random.default_rng(0).standard_normal((300, 300), "float32"),
    "step": np.array(3, "int32"),
}


@pytest.fixture
def said():
    return []


@pytest.fixture
def checkpoints(tmp_path, said):
    checkpoints = Checkpoints(tmp_path / "here", keep=2, report=said.append)
    yield checkpoints
    checkpoints.close()


def test_what_is_read_is_what_was_written(checkpoints):
    checkpoints.save(10, STATE, {"phase": 1, "names": ["a"]})
    assert checkpoints.facts(10) == {"phase": 1, "names": ["a"]}
    read = checkpoints.restore(10, STATE)
    assert read.keys() == STATE.keys()
    for name, value in STATE.items():
        np.testing.assert_array_equal(read[name], value)


def test_arrays_may_change_when_save_returns(checkpoints):
    state = {"weights": np.zeros((500, 500), "float32")}
    for step in range(1, 4):
        checkpoints.save(step, {"weights": state["weights"].copy()}, {})
        state["weights"] += 1
    assert checkpoints.restore(3, state)["weights"].max() == 2


def test_the_last_ones_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "here", keep=2, keep_best=1)
    losses = {0: None, 10: 3.0, 20: 1.0, 30: float("nan"), 40: 2.0}
    for step, loss in losses.items():
        checkpoints.save(step, STATE, {}, loss)
    assert checkpoints.steps() == [20, 30, 40]
    checkpoints.close()
    # A later process knows the best still.
    checkpoints = Checkpoints(tmp_path / "here", keep=2, keep_best=1)
    for step in (50, 60):
        checkpoints.save(step, STATE, {}, 2.5)
    assert checkpoints.steps() == [20, 50, 60]
    checkpoints.close()


def largest_file(checkpoints, step):
    files = (checkpoints.folder / f"{step:08}").rglob("*")
    return max((f for f in files if f.is_file()), key=lambda f: f.stat().st_size)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, os.unlink])
def test_a_damaged_checkpoint_is_refused_and_moved_aside(checkpoints, damage):
    for step in (10, 20):
        checkpoints.save(step, STATE, {})
    checkpoints.wait()
    damage(largest_file(checkpoints, 20))
    with pytest.raises(CheckpointError):
        checkpoints.restore(20, STATE)
    aside = checkpoints.set_aside(20)
    assert aside.is_dir()
    assert checkpoints.steps() == [10]
    checkpoints.restore(10, STATE)
    # Its step is free again.
    checkpoints.save(20, STATE, {"new": True})
    assert checkpoints.facts(20) == {"new": True}


def test_what_a_kill_left_unfinished_is_not_there(tmp_path):
    left = tmp_path / "here" / "00000010.orbax-checkpoint-tmp"
    (left / "state").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path / "here")
    assert checkpoints.steps() == []
    assert not left.exists()
    checkpoints.close()


def test_a_full_disk_is_reported_and_the_older_checkpoints_stay(small_disk, said):
    checkpoints = Checkpoints(small_disk / "here", keep=2, report=said.append)
    filler = small_disk / "filler"
    checkpoints.save(10, STATE, {})
    checkpoints.wait()
    filler.write_bytes(bytes(7_900_000))
    checkpoints.save(20, STATE, {})
    assert not checkpoints.wait()
    (message,) = said
    assert message.startswith("Checkpoint 20 could not be written: ")
    assert "No space left on device" in message
    assert message.endswith("There are [10]")
    assert os.listdir(checkpoints.folder) == ["00000010"]
    np.testing.assert_array_equal(
        checkpoints.restore(10, STATE)["weights"], STATE["weights"]
    )
    filler.unlink()
    checkpoints.save(20, STATE, {})
    assert checkpoints.steps() == [10, 20]
    checkpoints.close()
