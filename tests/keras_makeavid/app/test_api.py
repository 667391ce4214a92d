"""The page's API: what a script may ask for, what it may not, and many at once."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from app_serving import memory_of, served

from keras_makeavid import video

gradio_client = pytest.importorskip("gradio_client")
pytestmark = pytest.mark.slow
# What has no value at first has to be said.
NO_FILES = dict.fromkeys(("hint", "keyframes", "video", "lora"))
FORM = NO_FILES | {
    "prompt": "a cat",
    "frames": 2,
    "steps": 1,
    "height": 64,
    "width": 64,
    "seed": 3,
    "keep_seed": True,
    "previews": False,
}


# Before there is another page, whose queue takes the time of both.
def test_the_space_starts_as_it_stands(tmp_path):
    folder = Path(__file__).parents[3] / "spaces"
    front = (folder / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in front and "app_file: app.py" in front
    # The package of ZeroGPU, as far as the page knows it.
    told = "def GPU(f):\n    def on_gpu(*args):\n        print('on a GPU')\n"
    told += "        return f(*args)\n    return on_gpu\n"
    (tmp_path / "spaces.py").write_text(told)
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {"GRADIO_SERVER_PORT": "7899", "PYTHONPATH": places}
    log = tmp_path / "log.txt"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-u", "app.py"],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(3000):
            if "The page is at" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        client = gradio_client.Client("http://127.0.0.1:7899", verbose=False)
        sent = NO_FILES | {"prompt": "a red star", "steps": 2, "frames": 2}
        assert client.predict(**sent, api_name="/generate")[0].startswith("Made in ")
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert "Traceback" not in log.read_text()
    assert "on a GPU" in log.read_text()


@pytest.fixture(scope="module")
def page(preset, tmp_path_factory):
    log = tmp_path_factory.mktemp("app") / "log.txt"
    with served("--preset", preset, "--max-queue", 51, log=log) as page:
        yield page


@pytest.fixture(scope="module")
def client(page):
    return gradio_client.Client(page[0], verbose=False, max_workers=64)


def test_a_request_by_the_api_gives_a_video(client):
    status, _, made, *_ = client.predict(**FORM, api_name="/generate")
    assert status.startswith("Made in ") and status.endswith("with seed 3.")
    path = made["video"] if isinstance(made, dict) else made
    assert video.read_video(path).shape == (2, 64, 64, 3)


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"prompt": ["a cat"]}, "Prompt must be text of at most 2000 letters"),
        ({"seed": "seven"}, "Seed must be a whole number"),
        (
            {"steps": 10**9},
            "Steps must be a whole number of at least 1 and at most 100",
        ),
        ({"width": 8192}, "Width must be a whole number"),
        ({"preset": "/etc"}, "Model must be one of"),
        ({"scheduler": None}, "Scheduler must be one of"),
        ({"keyframes": 5}, ""),
        ({"hint": 5}, ""),
    ],
)
def test_what_does_not_fit_is_said(values, expected, client):
    with pytest.raises(Exception) as error:
        client.predict(**{**FORM, **values}, api_name="/generate")
    assert expected in str(error.value)
    # It ends nothing but itself.
    assert client.predict(**FORM, api_name="/generate")[0].startswith("Made in ")


def test_a_file_that_was_not_uploaded_is_out_of_reach(client, page):
    forged = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(Exception) as error:
        client.predict(**{**FORM, "lora": forged}, api_name="/generate")
    assert "root:" not in str(error.value)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{page[0]}/gradio_api/file=/etc/passwd")


def test_what_is_too_large_is_refused_while_it_comes_in(page):
    body = json.dumps({"data": ["x" * 2**27]}).encode()
    for path in ("queue/join", "component_server"):
        request = urllib.request.Request(f"{page[0]}/gradio_api/{path}", body)
        request.add_header("Content-Type", "application/json")
        with pytest.raises((urllib.error.URLError, ConnectionError)):
            urllib.request.urlopen(request)
    assert memory_of(page[1]) < 4000


def post(client, url):
    """Ask for a video by HTTP alone: a job of the client polls from a thread."""
    taken = client.view_api(print_info=False, return_format="dict")
    data = [
        FORM.get(each["parameter_name"], each["parameter_default"])
        for each in taken["named_endpoints"]["/generate"]["parameters"]
    ]
    request = urllib.request.Request(url, json.dumps({"data": data}).encode())
    request.add_header("Content-Type", "application/json")
    return json.load(urllib.request.urlopen(request))["event_id"]


def status_of(event_id, url):
    """Wait for a video; the line above it."""
    answer = urllib.request.urlopen(f"{url}/{event_id}", timeout=600).read().decode()
    event, data = answer.split("event: ")[-1].strip().split("\ndata: ")
    assert event == "complete", answer
    return json.loads(data)[0]


def test_fifty_requests_wait_none_is_lost_and_memory_stays(client, page):
    url = f"{page[0]}/gradio_api/call/generate"
    client.predict(**FORM, api_name="/generate")
    before, begun = memory_of(page[1]), time.monotonic()
    event_ids = [post(client, url) for _ in range(50)]
    made = [status_of(event_id, url) for event_id in event_ids]
    seconds = time.monotonic() - begun
    after = memory_of(page[1])
    assert all(status.startswith("Made in ") for status in made)
    print(f"50 requests: {seconds:.0f} s, {before:.0f} MB before, {after:.0f} MB after")
    assert after - before < 60


def test_a_full_queue_says_so(page):
    client = gradio_client.Client(page[0], verbose=False, max_workers=64)
    # The first one keeps the others waiting.
    steps = [100] + [1] * 60
    jobs = [client.submit(**{**FORM, "steps": n}, api_name="/generate") for n in steps]
    with pytest.raises(Exception, match="(?i)queue is full"):
        jobs[-1].result(timeout=60)
    # Those that wait are left to the page's end, which is not to take them.
