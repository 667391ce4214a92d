"""The tabs beside that which makes videos: an evaluation, and a run that trains."""

from __future__ import annotations

from typing import Any

import gradio as gr

from keras_makeavid.app.handlers import Evaluated, Handlers
from keras_makeavid.app.layout import QUEUE, said, session_of, told

_SECONDS_BETWEEN_LOOKS = 10


def add_evaluation(handlers: Handlers) -> None:
    """Lay out the tab that evaluates a model."""
    presets = list(handlers.tasks)
    gr.Markdown(
        "This makes videos of moving shapes, and measures how often they show what "
        "their prompts say. Half of the prompts say what training shows, the others "
        "what it never shows."
    )
    preset = gr.Dropdown(presets, label="Model", visible=len(presets) > 1)
    with gr.Row():
        count = gr.Slider(1, 8, 2, step=1, label="Prompts of each kind")
        seeds = gr.Slider(1, 4, 1, step=1, label="Videos of each prompt")
        steps = gr.Slider(1, 100, 20, step=1, label="Steps")
    with gr.Row():
        begin = gr.Button("Evaluate", variant="primary")
        end = gr.Button("Cancel")
    status = gr.Markdown("", elem_id="evaluation-status")
    table = gr.Markdown("", elem_id="table")
    gallery = gr.Image(label="The videos", visible=False, interactive=False)

    def evaluate(request: gr.Request, preset, count, seeds, steps):
        session = session_of(handlers, request)
        with told():
            for event in handlers.evaluate(session, preset, count, seeds, steps):
                if isinstance(event, Evaluated):
                    picture = gr.Image(str(event.gallery), visible=True)
                    yield {status: "Done.", table: event.table, gallery: picture}
                else:
                    yield {status: said(event)}

    def cancel(request: gr.Request):
        session_of(handlers, request).cancel()
        return "Cancelled."

    running = begin.click(
        evaluate,
        [preset, count, seeds, steps],
        [status, table, gallery],
        api_name="evaluate",
        show_progress_on=table,
        **QUEUE,
    )
    end.click(
        cancel, None, status, cancels=running, queue=False, api_visibility="private"
    )


def add_run(handlers: Handlers, page: gr.Blocks) -> None:
    """Lay out the tab that shows a run's curves and samples while it trains."""
    import pandas

    where = gr.Markdown("", elem_id="run-status")
    with gr.Row():
        plots = [
            gr.LinePlot(x="step", y=name, label=label, height=250)
            for name, label in (
                ("loss", "Loss"),
                ("lr", "Learning rate"),
                ("grad_norm", "Norm of the gradients"),
            )
        ]
    samples = gr.Gallery(
        label="Newest samples",
        columns=6,
        fit_columns=False,
        object_fit="contain",
        interactive=False,
    )

    def look():
        lines, videos = handlers.curves(), handlers.samples()
        told = f"There is no run at `{handlers.run.path}` yet."
        if lines:
            last = lines[-1]
            told = (
                f"`{handlers.run.path}`: step {last['step']}, stage {last['stage']}, "
                f"epoch {last['epoch']}"
            )
        shown = [pandas.DataFrame(lines) if lines else None] * len(plots)
        return [told, *shown, [(str(path), text) for path, text in videos]]

    how: dict[str, Any] = {
        "show_progress": "hidden",
        "queue": False,
        "api_visibility": "private",
    }
    outputs = [where, *plots, samples]
    page.load(look, None, outputs, **how)
    gr.Timer(_SECONDS_BETWEEN_LOOKS).tick(look, None, outputs, **how)
