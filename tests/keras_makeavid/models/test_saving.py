"""Every way of saving a UNet brings back every bit, on this backend and the next."""

import hashlib
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.models import UNetPseudo3D

NEXT_BACKEND = {"jax": "torch", "torch": "tensorflow", "tensorflow": "jax"}

# Loads all three files and prints the digest of each.
READER = """
import json, sys
import keras
from keras_makeavid.models import UNetPseudo3D
sys.path.insert(0, sys.argv[2])
from test_saving import digest
folder = sys.argv[1]
config = json.load(open(folder + "/config.json"))
blank = UNetPseudo3D.from_config(config)
blank.load_weights(folder + "/unet.weights.h5")
loaded = {
    "weights": blank,
    "keras": keras.saving.load_model(folder + "/unet.keras"),
    "preset": UNetPseudo3D.from_preset(folder + "/preset"),
}
print("DIGESTS " + json.dumps({k: digest(unet) for k, unet in loaded.items()}))
"""


def digest(unet) -> str:
    """A hash of the config, and of the name and bytes of every weight."""
    made = hashlib.sha256(json.dumps(settings(unet)).encode())
    for variable in unet.variables:
        value = np.ascontiguousarray(ops.convert_to_numpy(variable))
        made.update(f"{variable.path} {value.dtype} {value.shape}".encode())
        made.update(value.tobytes())
    return made.hexdigest()


def settings(unet) -> dict:
    config = unet.get_config()
    return {key: config[key] for key in sorted(config) if key != "dtype"}


@pytest.fixture(scope="module")
def unet():
    keras.utils.set_random_seed(0)
    unet = UNetPseudo3D(
        block_channels=(8, 16),
        attention_levels=(True, False),
        layers_per_block=1,
        num_heads=(2, 4),
        context_dim=8,
        groups=4,
        gelu="exact",
        transformer_epsilon=1e-6,
    )
    for variable in unet.variables:
        value = np.random.default_rng(len(variable.path)).normal(size=variable.shape)
        variable.assign(value.astype("float32"))
    return unet


@pytest.fixture(scope="module")
def saved(unet, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    unet.save(folder / "unet.keras")
    unet.save_weights(folder / "unet.weights.h5")
    unet.save_to_preset(str(folder / "preset"))
    config = {**unet.get_config(), "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_config_round_trip(unet):
    again = UNetPseudo3D.from_config(unet.get_config())
    assert again.get_config() == unet.get_config()
    assert [v.path for v in again.variables] == [v.path for v in unet.variables]


def test_a_keras_file_brings_back_every_bit(unet, saved):
    assert digest(keras.saving.load_model(saved / "unet.keras")) == digest(unet)


def test_a_weights_file_brings_back_every_bit(unet, saved):
    again = UNetPseudo3D.from_config(unet.get_config())
    again.load_weights(saved / "unet.weights.h5")
    assert digest(again) == digest(unet)


def test_a_preset_brings_back_every_bit(unet, saved):
    assert digest(UNetPseudo3D.from_preset(str(saved / "preset"))) == digest(unet)


def test_another_backend_reads_every_bit_of_all_three(unet, saved):
    backend = NEXT_BACKEND[keras.config.backend()]
    run = subprocess.run(
        [sys.executable, "-c", READER, str(saved), os.path.dirname(__file__)],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    line = next(x for x in run.stdout.splitlines() if x.startswith("DIGESTS "))
    digests = json.loads(line.removeprefix("DIGESTS "))
    assert digests == dict.fromkeys(("weights", "keras", "preset"), digest(unet))


def test_a_functional_backbone_elsewhere_does_not_disturb(unet):
    # Keras rewrites the bases of KerasHub's Backbone when the first functional one
    # is made; subclassed backbones cannot be constructed any more after that.
    import keras_hub

    keras_hub.models.CLIPTextEncoder(
        vocabulary_size=8,
        embedding_dim=4,
        hidden_dim=4,
        num_layers=1,
        num_heads=1,
        intermediate_dim=4,
    )
    assert UNetPseudo3D.from_config(unet.get_config()).count_params() > 0
