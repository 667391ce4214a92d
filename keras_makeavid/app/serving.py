"""Starting the page, and ending it when it is told to."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keras_makeavid.app.handlers import Handlers

if TYPE_CHECKING:
    from keras_makeavid.tasks import TextToVideo

MAX_UPLOAD = "200mb"
_FONTS = ("system-ui", "sans-serif")


def serve(
    tasks: Mapping[str, TextToVideo],
    *,
    host: str | None = None,
    port: int | None = None,
    max_queue: int = 32,
    device: str | None = None,
) -> None:
    """Show the page until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        tasks: The models by their names; the first is shown at first.
        host: The address to listen at; `None` is this machine alone.
        port: `None` is the first free one from 7860 on.
        max_queue: How many requests may wait.
        device: What to compute on; `None` is the backend's choice.

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

        handlers = Handlers(tasks, Path(folder), device)
        page = build_page(handlers)
        cleaner = threading.Thread(
            target=handlers.sessions.keep_clean, args=(stopped,), daemon=True
        )
        cleaner.start()
        page.queue(max_size=max_queue, api_open=False)
        page.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            max_file_size=MAX_UPLOAD,
            ssr_mode=False,
            run_history=False,
            footer_links=["api"],
            theme=gr.themes.Default(
                font=_FONTS, font_mono=("ui-monospace", "monospace")
            ),
        )
        stopped.wait()
        handlers.sessions.cancel_all()
        page.close()
        # A thread that computes while the process ends would abort it.
        handlers.worker.wait(60)
