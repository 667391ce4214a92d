"""Files of a preset are checked before Keras reads them."""

import shutil

import h5py
import pytest

from keras_makeavid import TextToVideo
from keras_makeavid.models import UNetPseudo3D


@pytest.fixture
def copied(preset, tmp_path):
    return shutil.copytree(preset, tmp_path / "preset")


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def claim_much(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("a", (10**15,), "f4", chunks=(10**9,), compression="gzip")


def lead_elsewhere(path):
    with h5py.File(path, "r+") as file:
        file["a"] = h5py.ExternalLink("/etc/passwd", "b")


@pytest.mark.parametrize("damage", [cut_off, claim_much, lead_elsewhere])
@pytest.mark.parametrize("name", ["model.weights.h5", "task.weights.h5"])
def test_a_damaged_file_is_refused_by_name(copied, name, damage):
    damage(copied / name)
    with pytest.raises(ValueError, match=f"{name}: "):
        TextToVideo.from_preset(str(copied))


def test_weights_that_are_loaded_later_are_checked_too(copied):
    unet = UNetPseudo3D.from_preset(str(copied))
    unet.load_weights(copied / "model.weights.h5")
    cut_off(copied / "model.weights.h5")
    with pytest.raises(ValueError, match="model.weights.h5: is truncated"):
        unet.load_weights(copied / "model.weights.h5")
    with pytest.raises((ValueError, FileNotFoundError)):
        unet.load_weights(copied / "missing.weights.h5")


JSON = ("metadata.json", "config.json", "task.json", "preprocessor.json")
DAMAGE = {
    "empty": "",
    "cut": '{"class_name": "Text',
    "a list": "[1]",
    "null": "null",
    "UTF-16": "{}".encode("utf-16"),
    "deep": '{"a":' * 3000 + "1" + "}" * 3000,
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", JSON)
def test_damaged_json_is_refused_by_name(copied, name, content):
    (copied / name).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(ValueError, match=name):
        TextToVideo.from_preset(str(copied))


@pytest.mark.parametrize("name", JSON)
def test_a_folder_in_place_of_json_is_refused_by_name(copied, name):
    (copied / name).unlink()
    (copied / name).mkdir()
    with pytest.raises(OSError, match=name):
        TextToVideo.from_preset(str(copied))
