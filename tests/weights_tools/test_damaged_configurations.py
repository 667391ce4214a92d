"""Any damage to a configuration or an archive ends in a clean error or in a model."""

import json
import random
import shutil
import zipfile

import pytest

import weights_tools
from weights_tools.formats.hdf5_format import Hdf5Tensors

MUTATIONS = 500
HOSTILE = [None, True, -1, 0, 1, 5, 10**9, 10**30, 0.5, float("nan"), "", "x", [], {}]
HOSTILE += [["a"], [["a"]], [5] * 100, {"class_name": []}, [None], [32, "x"]]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Small sources of each kind that has a configuration in JSON."""
    from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
    from keras_makeavid.tasks import TextToVideo
    from keras_makeavid.text import (
        TextEncoder,
        TextToVideoPreprocessor,
        openai_clip_vocabulary,
    )

    folder = tmp_path_factory.mktemp("sources")
    tokens, merges = openai_clip_vocabulary()
    # The bytes, ten merges of them, start and end: CLIP's whole takes a second to read.
    names = [*list(tokens)[:522], *list(tokens)[-2:]]
    preprocessor = TextToVideoPreprocessor(
        {name: number for number, name in enumerate(names)}, merges[:10]
    )
    small = {"block_channels": (32,), "layers_per_block": 1}
    unet = UNetPseudo3D(**small, num_heads=2, attention_levels=(False,), context_dim=64)
    text = TextEncoder(len(names), 64, 64, 1, 1, 128, "quick_gelu", None, 77)
    task = TextToVideo(unet, preprocessor, text, AutoencoderKL(**small))
    weights_tools.convert(task, folder / "task")
    weights_tools.convert(task, folder / "pipeline", "diffusers")
    # Whose files are what is to be damaged here.
    shutil.rmtree(folder / "pipeline" / "tokenizer")
    weights_tools.convert(unet, folder / "unet", "makeavid_torch")
    for part in ("vae", "text_encoder"):
        weights_tools.convert(task, folder / part, "diffusers", part=part)
    unet.save(folder / "unet.keras")
    return folder


@pytest.fixture
def headers_read_once(monkeypatch):
    """Files of weights are not what is damaged: their groups are gone through once."""
    seen = {}

    visit = Hdf5Tensors._visit

    def visit_once(self, address, path):
        place = self._file.path
        if path or place not in seen:
            visit(self, address, path)
            seen[place] = self.groups, self._stored
        else:
            self.groups, self._stored = seen[place]

    monkeypatch.setattr(Hdf5Tensors, "_visit", visit_once)


def mutated(config, generator):
    """A configuration with a value of it, however deep, replaced or removed."""
    config = json.loads(json.dumps(config))
    places = [(config, key) for key in config]
    for node, key in places:
        value = node[key]
        if isinstance(value, dict):
            places += [(value, inner) for inner in value]
        elif isinstance(value, list):
            places += [(value, index) for index in range(min(3, len(value)))]
    node, key = generator.choice(places)
    if generator.random() < 0.2:
        del node[key]
    else:
        node[key] = generator.choice(HOSTILE)
    return config


def damaged(content, generator):
    content = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 4])):
        at = generator.randrange(len(content))
        if generator.random() < 0.1:
            del content[at:]
            content += b"!"
        else:
            content[at] = generator.randrange(256)
    return bytes(content)


def inspected(source):
    """Whether a source can be inspected; else the error is clean."""
    try:
        weights_tools.inspect(source)
    except (ValueError, FileNotFoundError) as error:
        assert str(source) in str(error)
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "pipeline/scheduler/scheduler_config.json",
        "task/config.json",
        "task/task.json",
        "task/preprocessor.json",
    ],
)
def test_a_damaged_configuration_is_named(sources, headers_read_once, tmp_path, name):
    generator = random.Random(name)
    source = tmp_path / "source"
    shutil.copytree(sources / name.split("/")[0], source)
    path = source.joinpath(*name.split("/")[1:])
    content = path.read_bytes()
    config = json.loads(content)
    assert inspected(source)
    good = 0
    for number in range(MUTATIONS):
        if number % 5 == 0:
            path.write_bytes(damaged(content, generator))
        else:
            path.write_text(json.dumps(mutated(config, generator)))
        good += inspected(source)
    assert 0 < good < MUTATIONS


def test_a_pointer_of_git_lfs_in_place_of_an_archive_is_named(tmp_path):
    path = tmp_path / "unet.keras"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid 12\n")
    with pytest.raises(ValueError, match=r"unet\.keras: is a pointer of Git LFS"):
        weights_tools.inspect(path)


def test_a_damaged_archive_is_named(sources, tmp_path):
    generator = random.Random(0)
    path = tmp_path / "unet.keras"
    content = (sources / "unet.keras").read_bytes()
    with zipfile.ZipFile(sources / "unet.keras") as archive:
        edges = [info.header_offset for info in archive.infolist()]
    # Where it is not weights: around each entry, and the directory at the end.
    places = [at + n for at in edges for n in range(300)] + list(range(-400, 0))
    good = 0
    for _ in range(MUTATIONS):
        changed = bytearray(content)
        at = generator.choice(places)
        changed[at] = generator.randrange(256)
        if generator.random() < 0.2:
            del changed[at:]
        path.write_bytes(changed)
        good += inspected(path)
    assert 0 < good < MUTATIONS


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("unet/config.json", {"down_block_types": 5}, "down_block_types must be"),
        ("unet/config.json", {"down_block_types": None}, "down_block_types must be"),
        ("unet/config.json", {"down_block_types": [["a"]]}, "down_block_types must"),
        ("unet/config.json", {"norm_eps": "x"}, "norm_eps must be a number"),
        (
            "vae/config.json",
            {"block_out_channels": 5},
            "block_out_channels must be",
        ),
        ("task/config.json", {"class_name": []}, r"must be of one of .*: \[\]"),
        ("task/task.json", {"height": 10**9}, "height must be .* at most"),
        ("task/task.json", {"height": None}, "height must be a whole number"),
        ("task/task.json", {"schedule": None}, "has no schedule"),
    ],
)
def test_the_error_names_the_file_and_the_key(sources, tmp_path, name, change, message):
    shutil.copytree(sources / name.split("/")[0], tmp_path / "source")
    path = tmp_path / "source" / name.split("/")[1]
    config = json.loads(path.read_text())
    if path.name == "task.json":
        config["config"].update(change)
    else:
        config.update(change)
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        weights_tools.inspect(tmp_path / "source")
