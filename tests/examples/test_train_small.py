"""The whole published order in small, by the commands of the package."""

import json
import runpy
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_server import warm_commands

import weights_tools
from keras_makeavid import TextToVideo

RUN = Path(__file__).parents[2] / "examples" / "train_small" / "run.py"


@pytest.fixture
def run_script():
    """Runs a script of the example, whose commands are forks of one process."""
    with warm_commands() as environment:

        def run(name, *arguments):
            return subprocess.run(
                ["python", RUN.with_name(name), *arguments],
                env=environment,
                capture_output=True,
                text=True,
            )

        yield run


@pytest.mark.slow
def test_the_way_from_nothing_to_an_evaluated_preset(tmp_path, run_script):
    first = run_script("run.py", tmp_path / "run", "--short")
    # What two updates a stage have taught is below the bar.
    assert first.returncode == 1, first.stderr
    assert "below the bar: colour of seen triples" in first.stderr
    preset = tmp_path / "run" / "makeavid_motions_small"
    parts = weights_tools.inspect(preset).values()
    assert {dtype for part in parts for dtype in part.dtypes} == {"float16"}
    assert sum(path.stat().st_size for path in preset.rglob("*")) < 26e6
    assert TextToVideo.from_preset(str(preset), few_steps=True).lora_scales
    task = TextToVideo.from_preset(str(preset))
    assert task.generate("a red star moving left", num_steps=1, seed=0).shape == (
        *(1, 16, 64, 64, 3),
    )
    evaluation = json.loads((tmp_path / "run/evaluation/evaluation.json").read_text())
    assert len(evaluation["videos"]) == 2

    again = run_script("run.py", tmp_path / "run", "--short")
    # It is below the bar still.
    assert again.returncode == 1
    assert all(line.endswith(": is there") for line in again.stdout.splitlines())

    swept = run_script("sweep.py", tmp_path / "run", "--short", "--only", "base")
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.splitlines()[-1].startswith("| as it is | ")
    assert (tmp_path / "run/sweep/sweep.md").exists()


WAITS = [sys.executable, "-c", "open('begun', 'w'); import time; time.sleep(60)"]


def test_what_fails_ends_the_other_lane_too(tmp_path, capfd):
    take = runpy.run_path(str(RUN))["take"]
    fails = [sys.executable, "-c", "raise SystemExit(3)"]
    start, ended = time.monotonic(), []
    with ThreadPoolExecutor() as pool:
        for lane in ({"a": [WAITS]}, {"b": [fails], "c": [fails]}):
            pool.submit(take, lane, tmp_path, None, ended)
    assert ended == [3]
    assert time.monotonic() - start < 30
    assert capfd.readouterr().err == "b: exit code 3\n"


STOPPED = """
import runpy, sys
main = runpy.run_path(sys.argv[1])["main"]
main.__globals__["steps"] = lambda short: [[{"a": [WAITS]}], [{"b": [WAITS]}]]
sys.argv[1:] = ["."]
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_what_runs_and_is_told_by_the_exit_code(tmp_path, number):
    code = STOPPED.replace("WAITS", repr(WAITS))
    run = subprocess.Popen([sys.executable, "-c", code, RUN], cwd=tmp_path)
    while not (tmp_path / "begun").exists():
        assert run.poll() is None
        time.sleep(0.1)
    run.send_signal(number)
    assert run.wait(timeout=30) == 128 + number
