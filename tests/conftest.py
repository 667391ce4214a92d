"""What every test starts from."""

import os

# Tests run a program once or twice: XLA would optimise it for longer than it runs.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import keras
import pytest


@pytest.fixture(autouse=True)
def seed():
    """The same random state for each test."""
    keras.utils.set_random_seed(0)
