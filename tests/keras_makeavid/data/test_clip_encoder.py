import json
import uuid

import keras
import numpy as np
import pytest
from run_datasets import write_dataset

from keras_makeavid.data import open_dataset
from keras_makeavid.data.clip_encoder import (
    check_encoder,
    encoder_record,
    weights_fingerprint,
)


def dense(seed):
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(3)
    return keras.Sequential([keras.Input((2,)), layer])


def test_the_same_weights_have_one_fingerprint_and_others_another():
    assert weights_fingerprint(dense(0)) == weights_fingerprint(dense(0))
    assert weights_fingerprint(dense(0)) != weights_fingerprint(dense(1))
    both = weights_fingerprint(dense(0), dense(1))
    assert both != weights_fingerprint(dense(1), dense(0))


def test_it_is_the_same_on_every_backend():
    model = dense(0)
    model.set_weights([np.array([[1, 2, 3], [4, 5, 6]]), np.array([7, 8, 9])])
    assert weights_fingerprint(model) == "3e258cbb3a7574e0"


@pytest.fixture
def encoded(task, tmp_path):
    """Makes a dataset of a record, such as `encoder_record` gives, for all clips."""

    def make(record):
        folder = write_dataset(tmp_path / f"dataset-{uuid.uuid4().hex}", clips=2)
        for number in range(2):
            path = folder / "data" / "metadata" / f"{number}.json"
            path.write_text(json.dumps({"caption": "", "encoder": record}))
        return open_dataset(folder)

    return make


def test_what_the_same_models_encoded_is_taken(task, encoded):
    dataset = encoded(encoder_record(task.vae, task.text_encoder))
    assert check_encoder(dataset, task.vae, task.text_encoder) is None


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_what_others_encoded_is_refused_with_both_names(task, encoded, part):
    record = encoder_record(task.vae, task.text_encoder)
    dataset = encoded({**record, part: "another", "scaling_factor": 0.5})
    with pytest.raises(ValueError, match=f"{record[part]}.* Received: .*another") as e:
        check_encoder(dataset, task.vae, task.text_encoder)
    assert "--allow-other-encoder" in str(e.value)
    assert ("scale 0.5" in str(e.value)) == (part == "vae")


def test_what_has_no_record_is_taken_for_stable_diffusion_s(task, tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "dataset", clips=2))
    note = check_encoder(dataset, task.vae, task.text_encoder)
    assert "2 clips" in note and "Stable Diffusion 1.5 are assumed" in note
    config = {**task.vae.get_config(), "scaling_factor": 0.5}
    other = type(task.vae).from_config(config)
    with pytest.raises(ValueError, match=r"of scale 0\.18215. Received: .*scale 0.5"):
        check_encoder(dataset, other, task.text_encoder)
