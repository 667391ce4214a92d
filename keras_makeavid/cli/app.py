"""Show a page in the browser that makes videos."""

from __future__ import annotations

import importlib.util
import logging
import socket

from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.validation import check_least

EXAMPLE = "makeavid app --port 7860"


def add_arguments(option) -> None:
    """Declare the options."""
    option(
        "--preset",
        default=[],
        help="folder or handle of a preset; may be given again; the model in the box "
        "if not given",
    )
    option("--host", help="address to listen at; this machine alone if not given")
    option("--port", type=int, help="the first free one from 7860 on if not given")
    option("--max-queue", default=32, help="requests that may wait")
    option(
        "--run",
        dest="run_folder",
        metavar="RUN",
        help="folder of a run, whose curves and samples are shown",
    )


def prepare(options) -> None:
    """Refuse what cannot be shown."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("The page needs Gradio: pip install 'keras-makeavid[app]'")
    if options.port is not None:
        # Gradio speaks of its own arguments.
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((options.host or "127.0.0.1", options.port))
            except (OSError, OverflowError) as error:
                problem = f"--port {options.port} cannot be had"
                raise ValueError(f"{problem}: {error}") from error
    check_least(1, **{"--max-queue": options.max_queue})


def run(options) -> None:
    """Load the presets and serve the page."""
    from keras_makeavid import TextToVideo
    from keras_makeavid.app import serve

    # JAX tells each work that is cancelled as the failure of a callback.
    logging.getLogger("jax._src.debugging").setLevel(logging.CRITICAL)
    presets = options.preset or [DEFAULT_PRESET]
    serve(
        {preset: TextToVideo.from_preset(preset) for preset in presets},
        host=options.host,
        port=options.port,
        max_queue=options.max_queue,
        run=options.run_folder,
        device=options.device,
    )
