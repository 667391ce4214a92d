import os
import shutil

import keras
import numpy as np
import pytest
from keras import ops

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
    # A name that an address of a file would have to escape.
    checkpoints = Checkpoints(tmp_path / "5% a#b?", keep=2, report=said.append)
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
        checkpoints.save(step, state, {})
        state["weights"] += 1
    assert checkpoints.restore(3, state)["weights"].max() == 2


def test_the_last_ones_are_kept(checkpoints):
    for step in (0, 10, 20, 30):
        checkpoints.save(step, STATE, {})
    assert checkpoints.steps() == [20, 30]


def test_an_extra_one_is_kept_while_it_is_the_newest_in_no_other_s_place(tmp_path):
    checkpoints = Checkpoints(tmp_path / "here", keep=1)
    checkpoints.save(10, STATE, {})
    checkpoints.save(13, STATE, {}, extra=True)
    assert checkpoints.steps() == [10, 13]
    checkpoints.close()
    # A later process knows the extra one still.
    checkpoints = Checkpoints(tmp_path / "here", keep=1)
    checkpoints.save(17, STATE, {}, extra=True)
    assert checkpoints.steps() == [10, 17]
    checkpoints.save(20, STATE, {})
    assert checkpoints.steps() == [20]
    checkpoints.close()


def test_one_that_is_removed_is_gone_and_its_step_free(checkpoints):
    for step in (10, 20):
        checkpoints.save(step, STATE, {})
    checkpoints.remove(20)
    assert checkpoints.steps() == [10]
    checkpoints.save(20, STATE, {"new": True})
    assert checkpoints.facts(20) == {"new": True}


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, os.unlink])
def test_whatever_file_is_damaged_it_is_read_exactly_or_refused(tmp_path, damage):
    facts = {"phase": 1, "step": 4}
    # Orbax reads JAX's arrays by other ways than NumPy's.
    state = STATE
    if keras.config.backend() == "jax":
        state = {name: ops.convert_to_tensor(value) for name, value in STATE.items()}
    whole = Checkpoints(tmp_path / "whole")
    for step in (10, 20):
        whole.save(step, state, facts)
    whole.close()
    files = [
        path for path in (tmp_path / "whole/00000020").rglob("*") if path.is_file()
    ]
    refused = set()
    for number, path in enumerate(files):
        copy = shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        damage(copy / path.relative_to(tmp_path / "whole"))
        checkpoints = Checkpoints(copy)
        try:
            assert checkpoints.facts(20) == facts
            read = checkpoints.restore(20, state)
        except CheckpointError:
            refused.add(path.parent.name)
            read = checkpoints.restore(10, state)
        for name, value in STATE.items():
            np.testing.assert_array_equal(read[name], value)
        checkpoints.close()
    assert {"facts", "state"} <= refused


def test_a_changed_digit_of_the_facts_is_noticed(checkpoints):
    checkpoints.save(10, STATE, {"step": 3, "phase": 0})
    checkpoints.wait()
    path = checkpoints.folder / "00000010" / "facts" / "metadata"
    path.write_text(path.read_text().replace('"phase": 0', '"phase": 7'))
    with pytest.raises(CheckpointError, match="its facts are not what was written"):
        checkpoints.facts(10)


def test_a_failure_of_the_system_is_not_the_checkpoint_s(checkpoints):
    checkpoints.save(10, STATE, {})
    checkpoints.wait()
    path = checkpoints.folder / "00000010" / "facts" / "metadata"
    path.unlink()
    # Linux gives an I/O error there.
    path.symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.facts(10)


def test_one_that_is_set_aside_leaves_its_step_free(checkpoints):
    for step in (10, 20, 20):
        checkpoints.save(step, STATE, {"step": step})
        if step == 20:
            aside = checkpoints.set_aside(20)
            assert aside.is_dir()
            assert checkpoints.steps() == [10]
    assert aside.name == "00000020.1"


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
