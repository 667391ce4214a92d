"""Presets go up whole, with a card that is true, and come back from the hub's cache."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import huggingface_hub
import numpy as np
import pytest
import yaml
from code_blocks import code_blocks
from hub_server import READING, TOKEN, serve_hub
from huggingface_hub import ModelCard
from keras import ops
from PIL import Image

import weights_tools
from keras_makeavid import TextToVideo, presets
from keras_makeavid.cli import main
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.presets import FEW_STEPS_FILE
from keras_makeavid.training.phases import with_parts

NAME = "you/shapes"
COMMITS = {"main": "a1" * 20, "v1": "b2" * 20}


@pytest.fixture(scope="module")
def short(task, tmp_path_factory):
    """A preset whose videos are short, trained from nothing."""
    folder = tmp_path_factory.mktemp("presets") / "short"
    origin = {"base_model": "none", "license": "mit"}
    with_parts(task, num_frames=2, origin=origin).save_to_preset(folder)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The hub's folder, and no hub in reach."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "converted"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "home"


@pytest.fixture
def hub(home, monkeypatch):
    """A hub of this machine, and a token that it takes."""
    from huggingface_hub.utils import _xet

    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_XET_CACHE", str(home / "xet"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    _xet.abort_xet_session()  # Else the caches of another test.
    with serve_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def uploaded(preset, *options, license="mit"):
    """The exit code of `makeavid upload`."""
    named = ("--license", license, "--prompt", "a cat")
    return main([str(o) for o in ("upload", preset, NAME, *named, *options)])


def in_cache(home, folder, revision="main"):
    """Lay a folder out as the hub's cache does: links to files named by their hash."""
    repository = home / "hub" / f"models--{NAME.replace('/', '--')}"
    commit = COMMITS[revision]
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            link = repository / "snapshots" / commit / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / revision).write_text(commit)


def assert_same(one, other):
    for first, second in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(*map(ops.convert_to_numpy, (first, second)))


def contents(folder):
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


# The folder.


def test_a_dry_run_is_a_preset_with_a_card_whose_code_runs(
    short, home, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "release"
    (tmp_path / "about.md").write_text("It knows *cats*.\n")
    options = ("--about", tmp_path / "about.md", "--tag", "cats", "--dry-run", out)
    assert uploaded(short, *options) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert_same(TextToVideo.from_preset(out), TextToVideo.from_preset(short))
    card = ModelCard.load(out / "README.md")
    assert card.data.to_dict() == {
        "library_name": "keras-hub",
        "license": "mit",
        "pipeline_tag": "text-to-video",
        "tags": ["keras-makeavid", "keras", "cats"],
    }
    assert "It knows *cats*." in card.text
    (block,) = code_blocks(card.text)
    in_cache(home, out)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block.code, "README.md", "exec"), names)
    assert names["videos"].shape == (1, 2, 128, 128, 3)
    assert (tmp_path / "video.mp4").stat().st_size


def test_nothing_but_the_preset_goes_up(short, tmp_path):
    preset = shutil.copytree(short, tmp_path / "preset")
    (preset / "secrets.env").write_text("HF_TOKEN=hf_secret")
    (preset / FEW_STEPS_FILE).write_bytes(b"an adapter")
    assert uploaded(preset, "--dry-run", tmp_path / "release") == 0
    made = contents(tmp_path / "release")
    assert made.pop("README.md")
    assert made == {**contents(short), FEW_STEPS_FILE: b"an adapter"}


def test_a_dry_run_replaces_an_older_one_but_neither_preset_nor_others(
    short, tmp_path, capsys
):
    preset = shutil.copytree(short, tmp_path / "preset")
    out = tmp_path / "release"
    for _ in range(2):
        assert uploaded(preset, "--dry-run", out) == 0
    before = contents(tmp_path)
    assert uploaded(preset, "--dry-run", preset) == 2
    assert "must not be the preset's own" in capsys.readouterr().err
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "diary.txt").write_text("mine")
    assert uploaded(preset, "--dry-run", tmp_path / "notes") == 2
    assert "choose another folder" in capsys.readouterr().err
    after = contents(tmp_path)
    assert after.pop("notes/diary.txt") == b"mine"
    assert after == before


def test_the_gallery_has_generated_videos(short, tmp_path):
    assert uploaded(short, "--gallery", "--dry-run", tmp_path / "release") == 0
    text = (tmp_path / "release" / "README.md").read_text()
    assert "![a cat](gallery_0.gif)" in text
    with Image.open(tmp_path / "release" / "gallery_0.gif") as made:
        assert made.n_frames == 2


def test_an_evaluation_is_told_as_the_hub_reads_it(short, tmp_path):
    rates = {"colour": 1.0, "shape": 0.75, "motion": None, "flicker": 0.5}
    report = {
        "rates": {"seen": rates, "held_out": {"all": 0.5}},
        "settings": {"seeds": 2},
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(report))
    given = ("--evaluation", tmp_path / "evaluation.json")
    assert uploaded(short, *given, "--dry-run", tmp_path / "release") == 0
    card = ModelCard.load(tmp_path / "release" / "README.md")
    assert card.data.model_name == "shapes"
    found = {
        (result.dataset_split, result.metric_name): result.metric_value
        for result in card.data.eval_results
    }
    expected = {("seen", "colour"): 1.0, ("seen", "shape"): 0.75}
    assert found == {**expected, ("held_out", "all"): 0.5}
    # The form that the hub reads.
    head = yaml.safe_load(
        (tmp_path / "release" / "README.md").read_text().split("---")[1]
    )
    first = head["model-index"][0]["results"][0]
    assert first["task"] == {"type": "text-to-video"}
    assert first["dataset"]["args"] == {"seeds": 2}


@pytest.mark.parametrize(
    "report", [[], {}, {"rates": {"seen": {"all": "1"}}, "settings": {}}]
)
def test_what_is_no_evaluation_is_refused(short, tmp_path, capsys, report):
    (tmp_path / "evaluation.json").write_text(json.dumps(report))
    given = ("--evaluation", tmp_path / "evaluation.json")
    assert uploaded(short, *given, "--dry-run", tmp_path / "release") == 2
    assert "evaluation.json" in capsys.readouterr().err
    assert not (tmp_path / "release").exists()


# Presets that are not whole.


def without(name):
    return lambda preset: (preset / name).unlink()


def cut(preset):
    weights = preset / "task.weights.h5"
    weights.write_bytes(weights.read_bytes()[:-1000])


def without_a_weight(preset):
    names = []
    with h5py.File(preset / "model.weights.h5", "r+") as file:
        file.visititems(
            lambda name, entry: (
                names.append(name) if isinstance(entry, h5py.Dataset) else None
            )
        )
        del file[names[0]]


def in_shards(names):
    def change(preset):
        (preset / "model.weights.h5").rename(preset / "model_00000.weights.h5")
        index = {"metadata": {}, "weight_map": {"/a": names}}
        (preset / "model.weights.json").write_text(json.dumps(index))

    return change


@pytest.mark.parametrize(
    "change, said",
    [
        (without("task.weights.h5"), "it lacks task.weights.h5"),
        (without("model.weights.h5"), "it lacks model.weights.h5"),
        (
            without("assets/tokenizer/vocab.json"),
            "it lacks assets/tokenizer/vocab.json",
        ),
        (without("preprocessor.json"), "it lacks preprocessor.json"),
        (in_shards(["model_00000.weights.h5", "model_00001.weights.h5"]), "_00001"),
        (in_shards("../../secret.weights.h5"), "it lacks secret.weights.h5"),
        (cut, "task.weights.h5"),
        (without_a_weight, ""),
    ],
)
def test_a_preset_that_is_not_whole_stays_here(
    short, hub, tmp_path, capsys, change, said
):
    preset = shutil.copytree(short, tmp_path / "preset")
    change(preset)
    assert uploaded(preset, "--dry-run", tmp_path / "release") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "release").exists()
    assert uploaded(preset) == 2
    assert not hub.files and not any("create" in each for each in hub.requests)


# The licence.


def with_origin(short, folder, origin):
    shutil.copytree(short, folder)
    config = json.loads((folder / "task.json").read_text())
    config["config"]["origin"] = origin
    (folder / "task.json").write_text(json.dumps(config))
    return folder


OPENRAIL = "creativeml-openrail-m"
SD = "stable-diffusion-v1-5/stable-diffusion-inpainting"


@pytest.mark.parametrize(
    "origin, license, options, said",
    [
        (
            {"base_model": "none", "license": "mit"},
            "cc0-1.0",
            (),
            "none's weights, mit",
        ),
        ({"base_model": SD, "license": OPENRAIL}, "mit", (), OPENRAIL),
        ({"base_model": SD}, "mit", (), OPENRAIL),
        ({}, "mit", ("--base-model", SD), OPENRAIL),
        ({"license": OPENRAIL}, "mit", ("--base-model", "none"), OPENRAIL),
        ({}, "mit", (), "name the base model"),
        ({"base_model": "none"}, "MIT", (), "as by the hub"),
        ({"license": 3}, "mit", (), "origin"),
    ],
)
def test_a_licence_that_contradicts_the_source_is_refused(
    short, tmp_path, capsys, origin, license, options, said
):
    preset = with_origin(short, tmp_path / "preset", origin)
    options += ("--dry-run", tmp_path / "release")
    assert uploaded(preset, *options, license=license) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "release").exists()


def test_what_is_made_of_a_release_knows_its_licence_and_base(short, home, tmp_path):
    preset = with_origin(short, tmp_path / "preset", {})
    named = ("--base-model", SD, "--license-link", "https://example.org/terms")
    out = tmp_path / "release"
    assert uploaded(preset, *named, "--dry-run", out, license="my-terms") == 2
    assert uploaded(preset, *named[:2], "--dry-run", out, license=OPENRAIL) == 0
    assert ModelCard.load(out / "README.md").data.base_model == SD
    in_cache(home, out)
    TextToVideo.from_preset(f"hf://{NAME}").save_to_preset(tmp_path / "trained")
    trained = TextToVideo.from_preset(tmp_path / "trained")
    assert trained.origin == {"base_model": NAME, "license": OPENRAIL}


def test_a_licence_that_the_hub_does_not_know_has_a_name_and_a_link(short, tmp_path):
    preset = with_origin(short, tmp_path / "preset", {"base_model": "none"})
    link = ("--license-link", "https://example.org/terms")
    out = ("--dry-run", tmp_path / "release")
    assert uploaded(preset, *link, *out, license="my-terms") == 0
    data = ModelCard.load(tmp_path / "release" / "README.md").data
    told = (data.license, data.license_name, data.license_link)
    assert told == ("other", "my-terms", "https://example.org/terms")


@pytest.mark.parametrize("head", ["license: {}", "license: other\nlicense_name: '{}'"])
def test_a_conversion_takes_the_licence_from_the_card_of_its_source(
    short, home, tmp_path, head
):
    pipeline = tmp_path / "pipeline"
    weights_tools.convert(short, pipeline, layout="diffusers")
    card = f"---\ntags: [x]\n{head.format(OPENRAIL)}\n---\n\nlicense: none\n"
    (pipeline / "README.md").write_text(card)
    in_cache(home, pipeline)
    for source, base in ((f"hf://{NAME}", {"base_model": NAME}), (str(pipeline), {})):
        task = TextToVideo.from_preset(source)
        assert task.origin == {**base, "license": OPENRAIL}


# The hub.


def test_an_upload_that_was_interrupted_goes_on_and_comes_back_whole(
    short, hub, home, capsys, monkeypatch
):
    hub.files = {"model_00000.weights.h5": b"old", "notes.txt": b"mine"}
    hub.large_files = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in short.glob("*.weights.h5")
    }
    hub.commits_to_refuse = 1
    assert uploaded(short) == 2
    error = capsys.readouterr().err
    assert "Another commit came first" in error and error.count("\n") == 1
    assert sum(hub.stored) > 10_000 and not hub.commits
    hub.stored.clear()
    assert uploaded(short) == 0
    # The weights were there already; all else went up in one commit.
    assert not hub.stored and len(hub.commits) == 1
    assert capsys.readouterr().out == f"{hub.address}/{NAME}/commit/{hub.commit}\n"
    made = dict(hub.files)
    assert made.pop("README.md") and made.pop("notes.txt") == b"mine"
    assert made == contents(short)
    expected = TextToVideo.from_preset(short)
    assert_same(TextToVideo.from_preset(f"hf://{NAME}@v1"), expected)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    assert_same(TextToVideo.from_preset(f"hf://{NAME}@v1"), expected)
    assert len(hub.requests) == before


@pytest.mark.parametrize(
    "token, said",
    [(None, "no token found"), ("x", "is invalid"), (READING, "You have no rights")],
)
def test_without_a_token_that_may_write_one_line_says_so(
    short, hub, monkeypatch, capsys, token, said
):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert uploaded(short) == 2
    error = capsys.readouterr().err
    assert error.startswith("makeavid upload: error: A token is needed")
    assert said in error and error.count("\n") == 1
    assert not hub.stored and not hub.files


@pytest.mark.parametrize("name", ["shapes", "a/b/c", "you/shapes@v1"])
def test_what_is_no_name_of_a_repository_is_refused(short, capsys, name):
    arguments = ("--license", "mit", "--prompt", "a cat")
    assert main(["upload", str(short), name, *arguments]) == 2
    assert name in capsys.readouterr().err


# The cache.


def test_presets_load_offline_by_revision_from_the_cache_of_the_hub(
    short, make_unet, task, home, tmp_path
):
    older = with_parts(task, backbone=make_unet(7), num_frames=2)
    older.save_to_preset(tmp_path / "older")
    in_cache(home, short)
    in_cache(home, tmp_path / "older", "v1")
    newest = TextToVideo.from_preset(short)
    for revision in ("", "@main", f"@{COMMITS['main']}"):
        assert_same(TextToVideo.from_preset(f"hf://{NAME}{revision}"), newest)
    for revision in ("v1", COMMITS["v1"]):
        handle = f"hf://{NAME}@{revision}"
        assert_same(TextToVideo.from_preset(handle), older)
        assert_same(UNetPseudo3D.from_preset(handle), older.backbone)
    assert presets.preset_folder(f"hf://{NAME}@v1").endswith(COMMITS["v1"])
    found = weights_tools.inspect(f"hf://{NAME}@v1")
    assert found.keys() == {"unet", "vae", "text_encoder"}
    # Nothing was converted.
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize("handle", [f"hf://{NAME}@v2", "hf://you/nothing"])
def test_what_is_not_in_the_cache_is_named_offline(short, home, handle):
    in_cache(home, short)
    for kind in (TextToVideo, UNetPseudo3D):
        with pytest.raises(FileNotFoundError, match=f"{handle}: .*HF_HUB_OFFLINE"):
            kind.from_preset(handle)


def test_a_download_that_was_cut_is_told_offline(short, home):
    in_cache(home, short)
    repository = home / "hub" / "models--you--shapes"
    (repository / "snapshots" / COMMITS["main"] / "task.weights.h5").unlink()
    with pytest.raises((OSError, ValueError), match=r"task\.weights\.h5"):
        TextToVideo.from_preset(f"hf://{NAME}")
