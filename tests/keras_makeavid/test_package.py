import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys

import keras
import pytest

import keras_makeavid

PACKAGES = [
    "keras_makeavid",
    *(
        f"keras_makeavid.{name}"
        for name in keras_makeavid.__all__
        if name not in ("TextToVideo", "__version__")
    ),
    "keras_makeavid.tasks",
    "weights_tools",
]

PROBE = """
import json, sys, time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
print("PROBE " + json.dumps([seconds, sorted(sys.modules)]))
"""


def probe(module):
    """Seconds that an import takes in a new process, and what it brings in."""
    code = PROBE.format(module=module)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    line = next(x for x in run.stdout.splitlines() if x.startswith("PROBE "))
    return json.loads(line.removeprefix("PROBE "))


@pytest.mark.once
def test_importing_the_package_is_quick_and_brings_in_nothing():
    tries = [probe("keras_makeavid") for _ in range(3)]
    modules = tries[0][1]
    # The shortest: other tests run at the same time.
    assert min(seconds for seconds, _ in tries) < 0.5
    heavy = {"keras", "keras_hub", "jax", "torch", "tensorflow", "numpy", "cv2", "av"}
    assert heavy.isdisjoint(modules)


def test_importing_the_layers_brings_in_nothing_optional():
    _, modules = probe("keras_makeavid.layers")
    assert {"keras_hub", "transformers", "av", "safetensors"}.isdisjoint(modules)
    backend = keras.config.backend()
    assert backend in modules
    if backend == "jax":
        assert {"torch", "tensorflow"}.isdisjoint(modules)


@pytest.mark.once
@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_exists_and_says_what_it_is(name):
    package = importlib.import_module(name)
    assert package.__doc__
    for public in package.__all__:
        member = getattr(package, public)
        assert public == "__version__" or member.__doc__, f"{name}.{public}"


@pytest.mark.once
def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'banana'"):
        keras_makeavid.banana  # noqa: B018


@pytest.mark.once
def test_the_installed_version_is_the_package_s():
    assert importlib.metadata.version("keras-makeavid") == keras_makeavid.__version__


@pytest.mark.once
def test_all_is_every_extra_for_users_but_that_of_tpus():
    metadata = importlib.metadata.metadata("keras-makeavid")
    extras = set(metadata.get_all("Provides-Extra"))
    (line,) = (
        requirement
        for requirement in metadata.get_all("Requires-Dist")
        if requirement.startswith("keras-makeavid[")
    )
    assert set(re.search(r"\[(.*?)\]", line)[1].split(",")) == extras - {
        "all",
        "docs",
        "test",
        "tpu",
    }


@pytest.mark.once
def test_python_m_runs_the_command_line():
    run = subprocess.run(
        [sys.executable, "-m", "keras_makeavid", "--version"],
        env={**os.environ},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == keras_makeavid.__version__
