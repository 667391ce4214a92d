"""What the page does, without a browser."""

import os
import shlex
import shutil
import sys
import threading
import time
import zipfile
from urllib.parse import parse_qsl

import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_makeavid import video
from keras_makeavid.app.handlers import Handlers, Made, Step, Uploads
from keras_makeavid.app.request import check_form, form_of, form_of_link, link_of
from keras_makeavid.app.sessions import MOST_VIDEOS, Cancelled, Sessions, Worker
from keras_makeavid.cli import main
from keras_makeavid.presets import FEW_STEPS_FILE
from keras_makeavid.training import add_lora, save_lora

FEW = {"prompt": "a cat", "steps": 2, "frames": 3, "seed": 5, "keep_seed": True}
SMALL = {"height": 64, "width": 64}


@pytest.fixture
def handlers(task, preset, tmp_path):
    return Handlers({str(preset): task}, tmp_path)


@pytest.fixture
def make(handlers):
    """Makes a video for a visitor; the last thing told is what was made."""

    def make(key="one", uploads=Uploads(), **values):  # noqa: B008
        (preset,) = handlers.tasks
        session = handlers.sessions.of(key)
        sent = FEW | SMALL | values
        return list(handlers.generate(session, preset, sent, uploads))

    return make


@pytest.fixture
def pictures(hint, tmp_path):
    paths = tmp_path / "cat.png", tmp_path / "painted.png"
    painted = np.zeros_like(hint)
    painted[:, :100] = 255
    for path, picture in zip(paths, (hint, painted), strict=True):
        video.write_image(path, picture)
    return paths


def test_a_prompt_becomes_the_video_that_generate_makes(make, task):
    *steps, made = make()
    assert [step.done for step in steps if not step.preview] == [1, 2, 3, 4]
    assert steps[0].seconds_left is None and steps[-1].seconds_left == 0
    previews = [step.preview for step in steps if step.preview]
    assert previews and all(path.name.endswith(".webp") for path in previews)
    (expected,) = task.generate("a cat", num_frames=3, num_steps=2, seed=5, **SMALL)
    assert made.path.name == "video.mp4"
    names = [path.name for path in made.files()]
    assert names == ["video.mp4", "video.gif", "video.webp", "frames.zip"]
    assert all(path.exists() for path in made.files())
    np.testing.assert_array_equal(video.read_image(made.last_frame), expected[-1])


def test_two_visitors_with_one_seed_have_a_video_each(make, handlers):
    one, other = make("one")[-1], make("other")[-1]
    assert one.path.read_bytes() == other.path.read_bytes()
    assert one.folder.parent != other.folder.parent
    assert handlers.sessions.of("one").history == [one]


def test_a_seed_that_is_not_kept_is_drawn(make):
    seeds = {make(keep_seed=False)[-1].request.form.seed for _ in range(3)}
    assert len(seeds) == 3


@pytest.fixture
def adapter(make_unet, tmp_path):
    unet = make_unet(1)
    add_lora(unet, rank=2, alpha=2)
    for variable in unet.variables:
        if "lora_kernel" in variable.path:
            variable.assign(0.3 * np.ones(variable.shape, "float32"))
    save_lora(unet, tmp_path / "style.safetensors")
    return tmp_path / "style.safetensors"


@pytest.mark.parametrize("kind", ["hint", "keyframes", "video", "lora", "few", "long"])
def test_the_lines_and_the_command_make_the_same_video(
    kind, make, preset, task, adapter, pictures, tmp_path, monkeypatch, request
):
    if kind == "hint":
        made = make(uploads=Uploads(*pictures))[-1]
    elif kind == "keyframes":
        made = make(uploads=Uploads(keyframes=pictures), keyframes_at="0, -1")[-1]
    elif kind == "video":
        clip = tmp_path / "some clip.gif"
        frames = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), "uint8")
        video.write_video(clip, frames, fps=8)
        made = make(uploads=Uploads(video=clip), strength=0.5)[-1]
    elif kind in ("lora", "few"):
        before = make()[-1]
        if kind == "few":
            own = shutil.copy(adapter, preset / FEW_STEPS_FILE)
            request.addfinalizer(own.unlink)
            monkeypatch.setattr(task, "few_steps_file", own)
            made = make(few_steps=True)[-1]
            assert before.path.read_bytes() != made.path.read_bytes()
        else:
            made = make(uploads=Uploads(lora=adapter))[-1]
        assert task.lora_scales == {}
        assert before.path.read_bytes() == make()[-1].path.read_bytes()
    else:
        made = make(frames=26, prompt='it\'s a "cat"', negative_prompt="-x")[-1]
        assert made.request.window == task.num_frames
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for path in made.files():
        if path.name not in ("video.mp4", "video.gif"):
            (folder / path.name).write_bytes(path.read_bytes())
    if kind == "lora":
        os.rename(adapter, folder / adapter.name)
    monkeypatch.chdir(folder)
    namespace: dict = {}
    exec(made.request.as_python(), namespace)
    with zipfile.ZipFile("frames.zip") as frames:
        frames.extractall("frames")
    paths = sorted((folder / "frames").glob("*.png"))
    expected = np.stack([video.read_image(path) for path in paths])
    np.testing.assert_array_equal(namespace["video"], expected)
    program, *arguments = shlex.split(made.request.as_command())
    assert (program, main(arguments)) == ("makeavid", 0)
    found, expected = video.read_video("video.mp4"), video.read_video(made.path)
    assert np.abs(found.astype(int) - expected).mean() < 1


def test_a_link_restores_all_settings(task):
    kind = form_of(task)
    form = check_form(FEW | {"prompt": "a cat & a dog?", "guidance": 3.5}, kind)
    query = dict(parse_qsl(link_of("tiny", form)))
    assert query["preset"] == "tiny" and form_of_link(query, kind) == form
    assert form_of_link({"__theme": "dark"}, kind) == kind()
    with pytest.raises(ValueError, match="^Steps must be a whole number"):
        form_of_link({"steps": "many"}, kind)


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"prompt": 5}, "Prompt must be text of at most 2000 letters. Received: 5"),
        ({"prompt": "x" * 2001}, "Prompt must be text of at most 2000 letters"),
        ({"negative_prompt": None}, "What to avoid must be text"),
        ({"frames": 2.5}, "Frames must be a whole number of at least 1 and at most 96"),
        ({"frames": 97}, "Frames must be a whole number of at least 1 and at most 96"),
        ({"frames": 96, "width": 256, "height": 256}, "make the video shorter or smal"),
        ({"height": 4096}, "Height must be a whole number of at least 8 and at most 2"),
        ({"steps": 101}, "Steps must be a whole number of at least 1 and at most 100"),
        ({"steps": True}, "Steps must be"),
        ({"guidance": "high"}, "Guidance must be a number"),
        ({"guidance": float("nan")}, "Guidance must be a number"),
        ({"fps": []}, "Frames a second must be a number"),
        ({"seed": -1}, "Seed must be a whole number of at least 0"),
        ({"seed": 2**70}, "Seed must be a whole number of at least 0"),
        ({"seed": None}, "Seed must be a whole number of at least 0"),
        ({"scheduler": "fast"}, "Scheduler must be one of 'ddim', 'dpm++2m'"),
        ({"keyframes_at": "0"}, "Frames of the keyframes must be 0 whole numbers"),
        ({"height": 40}, "height must be a positive multiple of 32"),
    ],
)
def test_what_does_not_fit_is_said_in_words(values, expected, make, tmp_path):
    with pytest.raises(ValueError) as error:
        make(**values)
    assert expected in str(error.value)
    assert not list(tmp_path.rglob("*.*"))


def test_hostile_uploads_are_refused_by_name(make, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_makeavid.app.handlers.MAX_PICTURE_PIXELS", 64)
    large = tmp_path / "large.png"
    video.write_image(large, np.zeros((9, 9, 3), "uint8"))
    # A header alone, which promises 40 gigapixels: nothing is decoded of it.
    bomb = tmp_path / "bomb.png"
    header = bytearray(large.read_bytes())
    header[16:24] = (200_000).to_bytes(4, "big") * 2
    bomb.write_bytes(header)
    (tmp_path / "page.png").write_text("<html>")
    (tmp_path / "video.mp4").write_text("no video")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 64)
    save_file({"x": np.zeros(3, "float32")}, tmp_path / "other.safetensors")
    (tmp_path / "pickle.pt").write_bytes(b"x")
    for field, name, expected in (
        ("hint", "large.png", "large.png declares 9 x 9 pixels, at most 64"),
        ("hint", "bomb.png", "bomb.png"),
        ("hint", "page.png", "page.png is a page of a website"),
        ("hint", "gone.png", "There is no file gone.png"),
        ("video", "video.mp4", "clip.mp4"),
        ("lora", "bad.safetensors", "bad.safetensors"),
        ("lora", "other.safetensors", "other.safetensors"),
        ("lora", "pickle.pt", "An adapter must be a .safetensors file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            make(uploads=Uploads(**{field: tmp_path / name}))
        assert expected in str(error.value)
        # Where files are is nobody's business.
        assert str(tmp_path) not in str(error.value)
    assert isinstance(make()[-1], Made)


def test_cancelling_ends_the_work_and_leaves_nothing(handlers, make, tmp_path):
    session = handlers.sessions.of("one")
    (preset,) = handlers.tasks
    events = handlers.generate(session, preset, FEW | {"steps": 50}, Uploads())
    assert isinstance(next(events), Step)
    session.cancel()
    with pytest.raises(Cancelled):
        for _ in events:
            pass
    assert not session.running and not list(tmp_path.rglob("*.*"))
    assert isinstance(make()[-1], Made)


def test_works_of_a_model_follow_one_another():
    worker, busy, running = Worker(), threading.Lock(), set()

    def work(tell):
        with busy:
            assert not others
            others.append(1)
            time.sleep(0.02)
            others.pop()
        return "done"

    others: list[int] = []
    results = []
    threads = [
        threading.Thread(target=lambda: results.extend(worker.steps(work, running)))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["done"] * 5 and not running


def test_sessions_and_uploads_go_after_their_lifetime(tmp_path):
    sessions = Sessions(tmp_path, lifetime=100)
    old, new = sessions.of("old"), sessions.of("new")
    for session in (old, new):
        (session.new_folder() / "video.mp4").write_text("x")
    for name in ("old upload", "new upload"):
        (tmp_path / name).mkdir()
    old.used -= 200
    os.utime(tmp_path / "old upload", (0, 0))
    sessions.clean()
    assert {path.name for path in tmp_path.iterdir()} == {
        new.folder.name,
        "new upload",
    }
    assert sessions.of("new") is new and sessions.of("old") is not old


def test_a_visitor_s_oldest_videos_go(make, handlers):
    session = handlers.sessions.of("one")
    first = make()[-1]
    session.history *= MOST_VIDEOS
    make()
    assert len(session.history) == MOST_VIDEOS and not first.folder.exists()


@pytest.mark.slow
def test_a_model_is_evaluated(handlers):
    session = handlers.sessions.of("one")
    (preset,) = handlers.tasks
    *steps, found = handlers.evaluate(session, preset, 1, 1, 1)
    assert [step.done for step in steps] == [1, 2]
    assert found.table.startswith("| | seen | held-out |")
    assert found.videos.count("<figure>") == 2


def test_a_run_is_shown_while_it_trains(tmp_path, task):
    handlers = Handlers({"tiny": task}, tmp_path, run=tmp_path / "run")
    assert (handlers.curves(), handlers.samples()) == ([], [])
    samples = tmp_path / "run/samples"
    for step in (20, 10):
        (samples / f"step-{step:08}").mkdir(parents=True)
        for prompt in (1, 0):
            (samples / f"step-{step:08}/{prompt}.mp4").write_text("x")
    lines = "".join(f'{{"step": {step}, "loss": 0.5}}\n' for step in range(2000))
    (tmp_path / "run/metrics.jsonl").write_text(lines + '{"step": 20')
    assert 250 <= len(handlers.curves()) <= 1000
    # Beside each other, what came of each prompt over the steps.
    shown = [
        (str(path.relative_to(samples)), told) for path, told in handlers.samples()
    ]
    assert shown == [
        (f"step-{step:08}/{prompt}.mp4", f"{prompt}: step {step}")
        for prompt in (0, 1)
        for step in (10, 20)
    ]


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("The page needs Gradio: pip install 'keras-makeavid[app]'")


def test_a_decorator_may_compute_elsewhere(task, tmp_path):
    calls = []

    def on_gpu(function):
        return lambda *arguments: calls.append(1) or function(*arguments)

    handlers = Handlers({"tiny": task}, tmp_path, on_gpu=on_gpu)
    session = handlers.sessions.of("one")
    (made,) = handlers.generate(session, "tiny", FEW | SMALL, Uploads())
    assert isinstance(made, Made) and calls == [1]
