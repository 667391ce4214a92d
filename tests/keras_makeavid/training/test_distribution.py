"""The same training on virtual devices, and in several processes on this machine."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras.distribution import DataParallel
from run_datasets import write_dataset

from keras_makeavid import TextToVideo
from keras_makeavid.recipes.schema import Distribution
from keras_makeavid.training import make_distribution, read_metrics, train
from keras_makeavid.training.distribution import (
    Hosts,
    check_batch_size,
    connect,
    parameter_axes,
)
from keras_makeavid.training.phases import open_loader, plan_phases
from keras_makeavid.video import write_image

TESTS = Path(__file__).parents[2]
STEPS = 20
KILLED_AT, STOPPED_AT = 13, 16

jax_only = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="keras.distribution is JAX's"
)


# What every process of a training is told.


@pytest.mark.skipif(keras.config.backend() == "jax", reason="JAX can")
def test_other_backends_refuse_a_recipe_with_a_distribution(make_recipe):
    with pytest.raises(ValueError, match=r"\[distribution\] trains under JAX"):
        train(make_recipe(distribution={}))


def test_input_channels_are_divided_where_they_can_be():
    assert parameter_axes((3, 3, 320, 640), 4) == (None, None, "fsdp", None)
    assert parameter_axes((9, 640), 4) == (None, "fsdp")
    assert parameter_axes((3, 1, 9, 5), 4) == (None,) * 4
    # Biases and norms stay whole.
    assert parameter_axes((640,), 4) == (None,)
    assert parameter_axes((), 4) == ()


@jax_only
def test_devices_must_make_whole_copies():
    devices = [SimpleNamespace(process_index=0, id=number) for number in range(8)]
    with pytest.raises(ValueError, match="divide the number of devices, 8.* 3"):
        make_distribution(Distribution(fsdp=3), devices)


@jax_only
def test_a_recipe_for_more_devices_trains_on_one():
    assert isinstance(make_distribution(Distribution(fsdp=4)), DataParallel)


@jax_only
def test_devices_of_a_process_are_next_to_each_other():
    import jax

    devices = [
        SimpleNamespace(process_index=number % 2, id=number) for number in range(4)
    ]
    mesh = make_distribution(Distribution(), devices).device_mesh
    assert [device.process_index for device in mesh.devices] == [0, 0, 1, 1]
    assert jax.device_count() == 1


@jax_only
def test_every_device_needs_a_sample():
    devices = [f"cpu:{number}" for number in range(8)]
    with DataParallel(devices=devices).scope():
        check_batch_size(16, "only")
        with pytest.raises(ValueError, match="multiple of the number of devices, 8"):
            check_batch_size(12, "only")


def test_each_host_reads_its_own_samples(make_recipe):
    (phase,) = plan_phases(make_recipe(data={"batch_size": 4}))
    whole = open_loader(phase.stage, seed=0).batch(3)
    parts = [
        open_loader(phase.stage, seed=0, hosts=Hosts(number, 2)).batch(3)
        for number in range(2)
    ]
    for name, value in whole.items():
        together = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(together, value)


@jax_only
def test_others_that_do_not_answer_are_no_reason_to_train_alone(monkeypatch):
    import jax

    def initialize(*given, **timeouts):
        raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED: Barrier timed out")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(jax.errors.JaxRuntimeError, match="DEADLINE_EXCEEDED"):
        connect()


# Processes of virtual devices.


def in_processes(test):
    """A test that takes its share of minutes."""
    return pytest.mark.slow(jax_only(test))


@pytest.fixture(scope="module")
def run_processes(tmp_path_factory):
    """Runs processes of `distributed.py` at once, and returns what came of each."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(TESTS.parent),
        # The same programs come again and again.
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }
    server = subprocess.Popen(
        # Without the script's folder, which has a keras_makeavid of its own.
        [sys.executable, "-P", TESTS / "distributed.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )

    def run(*processes):
        server.stdin.write(json.dumps(processes) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())

    yield run
    with server:
        server.stdin.close()


@pytest.fixture(scope="module")
def make_job(preset, tmp_path_factory):
    """Makes the job of a run: `make_job(name, distribution)`."""
    dataset = write_dataset(tmp_path_factory.mktemp("datasets") / "many", clips=16)
    runs = tmp_path_factory.mktemp("runs")

    def make(name, distribution=None, **options):
        recipe = {
            "run": {"folder": str(runs / name)},
            "model": {"preset": str(preset)},
            "data": {"source": str(dataset), "batch_size": 8, "frames": 3},
            "optimizer": {"ema": 0.9},
            "checkpoints": {"every": "10 steps", "keep": 9},
            "logs": {"tensorboard": False},
            "stage": [
                {
                    "name": "only",
                    "length": f"{STEPS} steps",
                    "learning_rate": {"peak": 1e-3, "warmup": "5 steps"},
                }
            ],
        }
        if distribution is not None:
            recipe["distribution"] = distribution
        return {"do": "train", "recipe": recipe, **options}

    return make


def cluster(count):
    """The environment of each process of a cluster on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
        }
        for number in range(count)
    ]


def folder_of(job):
    return Path(job["recipe"]["run"]["folder"])


def losses(job):
    lines = list(read_metrics(folder_of(job) / "metrics.jsonl"))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return np.array([line["loss"] for line in lines])


def weights(job):
    unet = TextToVideo.from_preset(str(folder_of(job) / "preset")).backbone
    return [keras.ops.convert_to_numpy(variable) for variable in unet.variables]


def assert_no_failure(processes):
    for process in processes:
        assert process["code"] == 0, process["told"]


def assert_other_is_lost(process):
    """It has ended soon after the other one, and says why."""
    # Half a minute without a heartbeat, which is looked for now and then.
    assert process["seconds_after_the_first"] < 60
    if process["code"] == 1:
        assert re.search(
            "Process . of 2 has lost another one: .*Start all .* --resume auto",
            process["told"],
        )
    else:
        # It was waiting for the other, and JAX has ended it.
        assert process["code"] == -signal.SIGABRT
        assert "most likely indicates that another task died" in process["told"]


@pytest.fixture(scope="module")
def jobs(make_job):
    return {
        "one": make_job("one"),
        "parallel": make_job("parallel", {}),
        "mesh": make_job("mesh", {"fsdp": 2}),
        "four": make_job("four", {"fsdp": 4}),
    }


@pytest.fixture(scope="module")
def ended(run_processes, jobs, preset):
    """What came of eight devices in a process, and of four in another."""
    generate = {
        "do": "generate",
        "preset": str(preset),
        "distribution": {"fsdp": 2},
        "prompts": list("abcdefgh"),
    }
    step = {"do": "compile_step", "preset": str(preset), "batch": 8}
    parallel = {**step, "trainable": "temporal", "distribution": {}}
    mesh = {**step, "trainable": "all", "distribution": {"fsdp": 2}}
    trainings = [jobs[name] for name in ("one", "parallel", "mesh")]
    processes = run_processes(
        {"devices": 8, "jobs": [*trainings, generate, parallel, mesh]},
        {"devices": 4, "jobs": [jobs["four"]]},
    )
    assert_no_failure(processes)
    return processes[0]["answers"][len(trainings) :]


@in_processes
@pytest.mark.parametrize("name", ["parallel", "mesh"])
def test_eight_devices_have_the_losses_of_one(ended, jobs, name):
    np.testing.assert_allclose(losses(jobs[name]), losses(jobs["one"]), atol=1e-5)
    for got, wanted in zip(weights(jobs[name]), weights(jobs["one"]), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)


@in_processes
def test_a_sample_depends_on_its_seed_and_not_on_the_devices(ended):
    generated = ended[0]
    assert generated["spread"] > 50
    # Sums are in another order.
    assert max(generated["differences"]) <= 1


BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "f16": 2}


def collectives(text):
    """Bytes that each kind of collective of a program returns, and their shapes."""
    found = {}
    for result, kind in re.findall(
        r"= (.+?) (all-reduce|all-gather|reduce-scatter|all-to-all)(?:-start)?\(", text
    ):
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", result):
            shape = [int(size) for size in shape.split(",") if size]
            found.setdefault(kind, []).append((shape, BYTES[dtype] * math.prod(shape)))
    return found


def parameters(shapes):
    return sum(map(math.prod, shapes))


@in_processes
def test_only_gradients_of_what_trains_are_reduced(ended):
    step = ended[1]
    found = collectives(step["text"])
    assert found.keys() == {"all-reduce"}
    reduced = sum(size for _, size in found["all-reduce"])
    trainable = 4 * parameters(step["trainable"])
    # Beside the gradients, there are a few numbers such as the loss.
    assert trainable <= reduced <= trainable + 64
    assert parameters(step["frozen"]) > parameters(step["trainable"])


@in_processes
def test_a_mesh_divides_parameters_and_state_and_gathers_nothing_else(ended):
    step = ended[2]
    divided = [whole for whole, part in step["shard_sizes"] if part == whole // 2]
    assert sum(divided) > 0.9 * sum(whole for whole, _ in step["shard_sizes"])
    found = collectives(step["text"])
    assert found.keys() <= {"all-reduce", "all-gather", "reduce-scatter"}
    sizes = {math.prod(shape) for shape in step["trainable"]}
    assert {math.prod(shape) for shape, _ in found["all-gather"]} <= sizes


@pytest.fixture(scope="module")
def pair(run_processes, jobs, make_job, tmp_path_factory):
    """Two processes train to the end; then one of them is killed on the way."""
    picture = tmp_path_factory.mktemp("hints") / "grey.png"
    write_image(picture, np.full((128, 128, 3), 128, "uint8"))
    whole = make_job("whole", {"fsdp": 4})
    whole["recipe"]["samples"] = {
        "prompts": ["a"],
        "hints": [str(picture)],
        "every": "20 steps",
        "steps": 2,
        "guidance": 1.0,
    }
    killed = make_job("killed", {"fsdp": 4})
    kill = {**killed, "stop": KILLED_AT, "signals": signal.SIGKILL}
    first, second = cluster(2)
    processes = run_processes(
        {"devices": 2, "jobs": [whole, killed], "environment": first},
        {"devices": 2, "jobs": [whole, kill], "environment": second},
    )
    return whole, killed, processes


@in_processes
def test_two_processes_train_as_one(ended, jobs, pair):
    whole, _, processes = pair
    for process in processes:
        assert process["answers"][:1] == [{"steps": STEPS, "signal": None}], process
    np.testing.assert_allclose(losses(whole), losses(jobs["four"]), atol=1e-6)
    for got, wanted in zip(weights(whole), weights(jobs["four"]), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


@in_processes
def test_each_process_writes_its_part_and_the_first_all_else(pair):
    whole, _, processes = pair
    folder = folder_of(whole)
    for number in range(2):
        part = folder / f"checkpoints/00000020/state/ocdbt.process_{number}/d"
        assert sum(path.stat().st_size for path in part.iterdir()) > 10_000
    samples = sorted(path.name for path in (folder / "samples").iterdir())
    assert samples == [f"step-{STEPS:08}"]
    assert f"step {STEPS}/{STEPS}" in processes[0]["told"]
    assert "step 1/" not in processes[1]["told"]


@in_processes
def test_a_run_of_which_a_process_is_killed_stops_and_goes_on(
    run_processes, pair, ended, jobs, make_job
):
    whole, killed, processes = pair
    assert processes[1]["code"] == -signal.SIGKILL
    assert_other_is_lost(processes[0])

    # A checkpoint of eight devices goes on with four, in the same processes' time.
    resumed = {**jobs["mesh"], "recipe": {**jobs["mesh"]["recipe"], "distribution": {}}}
    shutil.rmtree(folder_of(resumed) / f"checkpoints/{STEPS:08}")
    first, second = cluster(2)
    stop = {**killed, "stop": STOPPED_AT}
    *both, other = run_processes(
        {"devices": 2, "jobs": [killed, killed], "environment": first},
        {"devices": 2, "jobs": [stop, killed], "environment": second},
        {"devices": 4, "jobs": [resumed]},
    )
    assert_no_failure([*both, other])
    # A signal to one of them stops both, one step later.
    stopped = {"steps": STOPPED_AT + 1, "signal": signal.SIGTERM}
    for process in both:
        assert process["answers"] == [stopped, {"steps": STEPS, "signal": None}]
    metrics = [folder_of(job) / "metrics.jsonl" for job in (killed, whole)]
    assert metrics[0].read_bytes() == metrics[1].read_bytes()
    for got, wanted in zip(weights(killed), weights(whole), strict=True):
        np.testing.assert_array_equal(got, wanted)

    np.testing.assert_allclose(losses(resumed), losses(jobs["one"]), atol=1e-5)


@in_processes
def test_the_loss_of_the_first_process_is_told_by_the_other(run_processes, make_job):
    job = make_job("headless", {"fsdp": 4})
    kill = {**job, "stop": 2, "signals": signal.SIGKILL}
    first, second = cluster(2)
    head, other = run_processes(
        {"devices": 2, "jobs": [kill], "environment": first},
        {"devices": 2, "jobs": [job], "environment": second},
    )
    assert head["code"] == -signal.SIGKILL
    assert_other_is_lost(other)
