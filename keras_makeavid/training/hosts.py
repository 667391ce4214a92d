"""The processes that train together, one on each host."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_makeavid.devices import gathered
from keras_makeavid.recipes.schema import Distribution
from keras_makeavid.training.distribution import check_backend, make_distribution

_SECONDS_WITHOUT_HEARTBEAT = 30
# A process that has failed waits for the others at its end, and they for it.
_SECONDS_TO_END = 60
_MESSAGE_BYTES = 1024


class ProcessLost(RuntimeError):
    """Another process of the run has ended, or cannot be reached."""


class Hosts:
    """This process and its peers. With a single process every method is trivial.

    Those methods that talk to others are called by all processes, in the same order.
    """

    def __init__(self, number: int = 0, count: int = 1):
        self.number = number
        self.count = count

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.number == 0

    def is_process_loss(self, error: BaseException | None) -> bool:
        """Whether an error is what JAX raises when another process is gone."""
        if self.count == 1 or error is None:
            return False
        import jax

        is_jax_s = isinstance(error, jax.errors.JaxRuntimeError)
        return is_jax_s and "RESOURCE_EXHAUSTED" not in str(error)

    def first_does(self, action: Callable[[], Any]) -> None:
        """Let the first process do something while the others wait.

        What it raises, all processes raise.
        """
        if self.count == 1:
            action()
            return
        error = None
        if self.is_first:
            try:
                action()
            except Exception as raised:
                error = raised
        told = _message_of_first(error)
        if error is not None:
            raise error
        if told:
            raise RuntimeError(f"The first process failed: {told}")

    def any(self, here: bool) -> bool:
        """Whether something is so in any process."""
        if self.count == 1:
            return here
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(here)).any())

    def broadcast(self, number: float) -> float:
        """Return the first process's value in all processes (float32)."""
        return number if self.count == 1 else float(_of_first(np.float32(number)))

    @contextmanager
    def holding(self, variables: Iterable[keras.Variable]) -> Iterator[None]:
        """Let the first process hold whole values on its host, for a block that saves.

        One after another, they are brought together from all processes. In the block
        no distribution is current: the first process computes with them alone.
        """
        distribution = keras.distribution.distribution()
        if distribution is None:
            yield
            return
        # Keras's saving (keras/src/saving/saving_lib.py) reads each variable by
        # itself, which fails where parts of it are in other processes.
        kept = [(variable, variable.value, variable._layout) for variable in variables]
        keras.distribution.set_distribution(None)
        try:
            for variable, value, _ in kept:
                whole = gathered(value)
                variable._layout = None
                variable._value = whole if self.is_first else value
            yield
        finally:
            keras.distribution.set_distribution(distribution)
            for variable, value, layout in kept:
                variable._value, variable._layout = value, layout


def _message_of_first(error):
    message = "" if error is None else str(error) or type(error).__name__
    written = message.encode()[:_MESSAGE_BYTES]
    padded = np.frombuffer(written.ljust(_MESSAGE_BYTES, b"\0"), "uint8")
    return bytes(_of_first(padded)).rstrip(b"\0").decode(errors="ignore")


def _of_first(value):
    """The array that the first of several processes passes."""
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(value)


@contextmanager
def distributed(options: Distribution | None) -> Iterator[Hosts]:
    """Train on the devices that a recipe says, on one if `None`, while a block runs.

    When another process is gone it raises `ProcessLost`. One that waits for another,
    which cannot be interrupted, is ended by JAX (SIGABRT) when there has been no
    heartbeat for half a minute.
    """
    if options is None:
        yield Hosts()
        return
    check_backend()
    import jax

    connect(options)
    hosts = Hosts(jax.process_index(), jax.process_count())
    with make_distribution(options).scope():
        try:
            yield hosts
        except jax.errors.JaxRuntimeError as error:
            if not hosts.is_process_loss(error):
                raise
            told = str(error).partition("\n")[0]
            raise ProcessLost(
                f"Process {hosts.number} of {hosts.count} has lost another one: it has "
                "ended, or the network has failed. Start all of them again with "
                f"--resume auto. JAX says: {told}"
            ) from error


def connect(options: Distribution) -> None:
    """Join the other processes, if there are any, before JAX is at work.

    What `options` leave out is Keras's environment (`KERAS_DISTRIBUTION_JOB_ADDRESSES`
    and so on), or what JAX finds out itself: on Cloud TPU, SLURM, Open MPI.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    coordinator = _or_environment(options.coordinator, "JOB_ADDRESSES")
    processes = _or_environment(options.processes, "NUM_PROCESSES")
    process = _or_environment(options.process, "PROCESS_ID")
    asked = any(value is not None for value in (coordinator, processes, process))
    try:
        # As `keras.distribution.initialize`, which has no heartbeat.
        jax.distributed.initialize(
            # Keras takes the addresses of all processes, of which this is the first.
            coordinator and coordinator.split(",")[0],
            processes if processes is None else int(processes),
            process if process is None else int(process),
            heartbeat_timeout_seconds=_SECONDS_WITHOUT_HEARTBEAT,
            shutdown_timeout_seconds=_SECONDS_TO_END,
        )
    except (ValueError, RuntimeError) as error:
        # Where nobody tells of others, JAX finds neither coordinator nor cluster; nor
        # can it look for them once it is at work. There is this process alone. Its
        # runtime fails where it has found others that do not answer.
        of_runtime = isinstance(error, jax.errors.JaxRuntimeError)
        if asked or of_runtime or jax.process_count() > 1:
            raise
    if jax.process_count() > 1:
        # All processes must draw the same weights, also where others replace them.
        keras.utils.set_random_seed(0)


def _or_environment(value, variable):
    return os.environ.get(f"KERAS_DISTRIBUTION_{variable}") if value is None else value
