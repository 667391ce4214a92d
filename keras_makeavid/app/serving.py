"""Starting the page, and ending it when it is told to."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from keras_makeavid.app.handlers import Handlers
from keras_makeavid.files import StrPath

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

# An adapter may be so large. Pictures are bounded when they are read.
MAX_UPLOAD = "200mb"
# Of anything else that a client sends, such as a picture that is painted on.
MAX_BODY = 2**26
_FONTS = ("system-ui", "sans-serif")


def serve(
    tasks: Mapping[str, TextToVideo],
    *,
    host: str | None = None,
    port: int | None = None,
    max_queue: int = 32,
    run: StrPath | None = None,
    device: str | None = None,
    on_gpu: Callable[[Any], Any] | None = None,
) -> None:
    """Show the page until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        tasks: The models by their names; the first is shown at first.
        host: The address to listen at; `None` is this machine alone.
        port: `None` is the first free one from 7860 on.
        max_queue: How many requests may wait.
        run: The folder of a run, whose curves and samples are shown.
        device: What to compute on; `None` is the backend's choice.
        on_gpu: Decorates the function that computes a video, as `spaces.GPU` does on a
            Space. It may compute in another process: then no steps are told.

    Raises:
        OSError: If the port is taken.

    Example:
    ```python
    serve({"makeavid_motions_small": task}, port=7860)
    ```
    """
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with tempfile.TemporaryDirectory(prefix="makeavid-") as folder:
        # Gradio puts uploads there, and shows what is in it.
        os.environ["GRADIO_TEMP_DIR"] = folder
        import gradio as gr

        from keras_makeavid.app.layout import build_page

        handlers = Handlers(
            tasks, Path(folder), None if run is None else Path(run), device, on_gpu
        )
        page = build_page(handlers)
        cleaner = threading.Thread(
            target=handlers.sessions.keep_clean, args=(stopped,), daemon=True
        )
        cleaner.start()
        page.queue(max_size=max_queue, api_open=False)
        # Of the run, the samples alone.
        shown = [] if handlers.run is None else [str(handlers.run.samples.resolve())]
        _, address, _ = page.launch(
            quiet=True,
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            max_file_size=MAX_UPLOAD,
            allowed_paths=shown,
            app_kwargs={"middleware": [Middleware(_BoundedBodies)]},
            ssr_mode=False,
            run_history=False,
            footer_links=["api"],
            theme=gr.themes.Default(
                font=_FONTS, font_mono=("ui-monospace", "monospace")
            ),
        )
        print(f"The page is at {address} (Ctrl-C ends it)", flush=True)
        stopped.wait()
        handlers.sessions.cancel_all()
        page.close()
        # A thread that computes while the process ends would abort it.
        handlers.worker.end()


class _BoundedBodies:
    """Refuses what is too large while it comes in; Gradio bounds uploads alone."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        size = 0

        async def receive_some():
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, "The request is too large.")
            return message

        is_upload = scope["type"] != "http" or scope["path"].endswith("/upload")
        await self._app(scope, receive if is_upload else receive_some, send)
