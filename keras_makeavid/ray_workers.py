"""Work that the machines of a Ray cluster share."""

import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from keras_makeavid.parallel import taken_ahead
from keras_makeavid.validation import check_least

# What decides how workers compute, and is to be the same there as here.
_ENVIRONMENT = ("JAX_PLATFORMS", "XLA_FLAGS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL")
# How often a piece of work is given to a worker again that was lost with it.
_TRIES = 3
# Pieces of which each worker knows, so that one that takes long holds up no others.
_CALLS_AHEAD = 4


@dataclass(frozen=True)
class RayWorkers:
    """The workers of a Ray cluster, that encode clips or generate videos.

    Every machine must find all files, and the preset, under the paths that they have
    here. A worker that is lost is replaced, and its work done again. Without Ray, an
    `ImportError` names the extra.

    Args:
        preset: Preset of the `TextToVideo` that the workers use.
        workers: How many work at a time.
        address: Address of the cluster, `"auto"` for the one that this machine is in,
            or `"local"` to start one on this machine for as long as it is needed.
        gpus: GPUs of each worker.

    Example:
    ```python
    workers = RayWorkers("preset", workers=8, address="auto", gpus=1)
    encode_clips(captions, "dataset", *parts, ray_workers=workers)
    ```
    """

    preset: str
    workers: int = 1
    address: str = "local"
    gpus: float = 0.0

    def __post_init__(self):
        check_least(1, workers=self.workers)
        import_ray()

    def results(
        self, worker: type, arguments: tuple, calls: Iterable[tuple]
    ) -> Iterator[Any]:
        """Call `work` of workers, made of preset and `arguments`, with each call's."""
        ray = import_ray()
        with _connected(ray, self.address):
            # A worker that is lost begins again, on another machine if need be.
            remote = ray.remote(worker).options(
                num_gpus=self.gpus,
                # Over the machines: a worker holds no CPU by which to count.
                scheduling_strategy="SPREAD",
                max_restarts=-1,
                max_task_retries=_TRIES,
                runtime_env={"env_vars": _environment()},
            )
            preset = self.preset
            if os.path.exists(preset):
                preset = os.path.abspath(preset)
            workers = [remote.remote(preset, *arguments) for _ in range(self.workers)]
            # The calls first: where they end, no worker is taken in vain.
            pairs = zip(calls, itertools.cycle(workers), strict=False)
            started = (to.work.remote(*call) for call, to in pairs)
            try:
                for result in taken_ahead(started, _CALLS_AHEAD * self.workers):
                    yield ray.get(result)
            except ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                raise RuntimeError(f"Ray: {lines[-1] if lines else error!r}") from error


def import_ray() -> Any:
    """Import Ray, or say how to get it."""
    try:
        import ray
    except ImportError as error:
        problem = "Machines share work through Ray"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[ray]'") from error
    return ray


def _connected(ray, address):
    """What is in a cluster, and leaves it if that was not so before."""
    if ray.is_initialized():
        return nullcontext()
    dashboard = False if address == "local" else None
    quiet = {"log_to_driver": False, "logging_level": "warning"}
    return ray.init(address=address, include_dashboard=dashboard, **quiet)


def _environment():
    import keras

    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "KERAS_BACKEND": keras.config.backend()}
