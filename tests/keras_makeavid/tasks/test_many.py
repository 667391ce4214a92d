"""Lists of prompts to folders of videos, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_makeavid import TextToVideo, video
from keras_makeavid.cli import main
from keras_makeavid.tasks import VideoRequest, generate_many, read_requests

FEW = {"num_frames": 2, "num_steps": 1, "guidance_scale": 1.0}


@pytest.fixture
def picture(hint, tmp_path):
    video.write_image(tmp_path / "hint.png", hint)
    return tmp_path / "hint.png"


def requests(picture, **changes):
    return {
        number: VideoRequest(prompt, hint_image=str(picture), **changes)
        for number, prompt in enumerate(["a cat", "a dog", "a cat", "dog"], start=1)
    }


def written(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".gif")


# The list.


@pytest.mark.once
def test_a_list_of_text_is_a_prompt_a_line(tmp_path):
    path = tmp_path / "prompts.txt"
    # The separator of lines of Unicode is no end of a line in a list.
    path.write_bytes('\ufeffa\u2028cat\r\n\r\n  {"a": dog} \r\n'.encode())
    found, problems = read_requests(path)
    assert found == {1: VideoRequest("a\u2028cat"), 3: VideoRequest('{"a": dog}')}
    assert not problems


@pytest.mark.once
def test_one_bad_line_does_not_end_the_rest(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [
        '{"prompt": "a cat", "seed": 4, "hint_image": "cats/1.png"}',
        '{"prompt": "a cat"',
        '{"prompt": 3}',
        '{"prompt": "a dog", "frame": 3}',
        '{"prompt": "a dog", "seed": -1}',
        '["a dog"]',
        '{"prompt": "a dog", "num_frames": 3}',
    ]
    path.write_text("\n".join(lines))
    found, problems = read_requests(path)
    hint = str(tmp_path / "cats" / "1.png")
    assert found == {
        1: VideoRequest("a cat", seed=4, hint_image=hint),
        7: VideoRequest("a dog", num_frames=3),
    }
    assert sorted(problems) == [2, 3, 4, 5, 6]
    assert all(f"line {n} of {path}" in text for n, text in problems.items())
    assert "num_frames" in problems[4]  # What was meant, perhaps.


@pytest.mark.once
def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(ValueError, match="has no prompt in it"):
        read_requests(tmp_path / "none.txt")


# The videos.


@pytest.mark.parametrize("batch_size", [1, 3])
def test_each_video_is_the_one_that_generate_makes(
    task, picture, hint, tmp_path, monkeypatch, batch_size
):
    seen, shown, write_video = [], {}, video.write_video

    def write(path, frames, fps):
        shown[path] = frames
        write_video(path, frames, fps)

    monkeypatch.setattr(video, "write_video", write)
    options = {"suffix": ".gif", "seed": 5, "on_video": seen.append, **FEW}
    report = generate_many(
        task, requests(picture), tmp_path / "videos", batch_size=batch_size, **options
    )
    assert seen == list(report.written) == [1, 2, 3, 4]
    assert not report.failed
    for number, prompt in ((1, "a cat"), (4, "dog")):
        expected = task.generate(prompt, hint_image=hint, seed=5 + number, **FEW)[0]
        path = report.written[number]
        assert np.abs(shown[path].astype(int) - expected).max() <= 1
        assert video.read_video(path).shape == expected.shape
    facts = json.loads((tmp_path / "videos" / "manifest.json").read_text())["videos"]
    assert sorted(facts) == written(tmp_path / "videos")
    assert [fact["seed"] for fact in facts.values()] == [6, 7, 8, 9]


@pytest.mark.once
def test_what_is_there_is_not_made_again_unless_it_is_another(
    task, picture, tmp_path, monkeypatch
):
    options = {"suffix": ".gif", **FEW}
    out = tmp_path / "videos"
    generate_many(task, requests(picture), out, **options)
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.gif")}
    os.unlink(sorted(times)[1])
    changed = requests(picture)
    changed[4] = VideoRequest("another", hint_image=str(picture))
    report = generate_many(task, changed, out, **options)
    assert sorted(report.found) == [1, 3]
    assert sorted(report.written) == [2, 4]
    for path, time_ in times.items():
        if path != sorted(times)[1]:
            assert path.stat().st_mtime_ns == time_


@pytest.mark.once
def test_one_that_fails_does_not_end_the_rest_of_its_batch(task, picture, tmp_path):
    asked = requests(picture)
    (tmp_path / "no.png").write_text("no picture")
    asked[2] = VideoRequest("a dog", hint_image=str(tmp_path / "no.png"))
    asked[5] = VideoRequest("a cat", hint_image=str(picture), height=50)
    report = generate_many(
        task, asked, tmp_path / "videos", batch_size=4, suffix=".gif", **FEW
    )
    assert sorted(report.written) == [1, 3, 4]
    assert "no.png" in report.failed[2]
    assert "height must be a positive multiple" in report.failed[5]
    manifest = json.loads((tmp_path / "videos" / "manifest.json").read_text())
    assert sorted(manifest["failed"]) == ["2", "5"]


# The command.


@pytest.mark.once
def test_the_command_writes_them_and_counts(preset, picture, tmp_path, capfd):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "a cat", "hint_image": "hint.png"}\n{}\n')
    command = ["generate", "--prompts", str(path), "--preset", str(preset)]
    command += ["--frames", "2", "--steps", "1", "--guidance", "1"]
    command += ["--out", str(tmp_path / "videos"), "--format", "gif"]
    assert main(command) == 1
    out, error = capfd.readouterr()
    assert out.endswith("1 videos written, 0 found finished, 1 failed\n")
    assert "line 2 of" in error and "prompt" in error
    assert main(command) == 1
    assert "0 videos written, 1 found finished, 1 failed" in capfd.readouterr().out


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments",
    [[], ["a cat", "--prompts", "p.txt"], ["--prompts", "p.txt", "--format", "png"]],
)
def test_what_does_not_go_together_is_refused(arguments, capsys):
    assert main(["generate", *arguments]) == 2
    assert "--prompts" in capsys.readouterr().err


RUN = """
import sys
from keras_makeavid import TextToVideo
from keras_makeavid.tasks import generate_many, read_requests

task = TextToVideo.from_preset(sys.argv[1])
requests, _ = read_requests(sys.argv[2])
generate_many(
    task, requests, sys.argv[3], suffix=".gif", num_frames=2, num_steps=1,
    guidance_scale=1.0,
)
"""


@pytest.mark.once
def test_a_run_that_is_killed_goes_on_and_makes_the_same(preset, tmp_path):
    (tmp_path / "prompts.txt").write_text("a cat\n" * 40)
    command = [sys.executable, "-c", RUN, str(preset), str(tmp_path / "prompts.txt")]
    out = tmp_path / "videos"
    process = subprocess.Popen([*command, str(out)])
    while not (out.is_dir() and len(written(out)) > 2):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {name: (out / name).stat().st_mtime_ns for name in written(out)}
    assert 2 < len(before) < 40
    found, _ = read_requests(tmp_path / "prompts.txt")
    report = generate_many(
        TextToVideo.from_preset(str(preset)), found, out, suffix=".gif", **FEW
    )
    assert len(report.found) == len(before)
    assert len(written(out)) == 40
    assert all((out / n).stat().st_mtime_ns == t for n, t in before.items())
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
