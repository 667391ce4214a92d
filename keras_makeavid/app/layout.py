"""The page and its tabs: making videos, an evaluation, and a run that trains."""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from keras_makeavid.app.handlers import Evaluated, Handlers, Made, Step, Uploads
from keras_makeavid.app.painting import Painting, path_of
from keras_makeavid.app.request import bounds_of, form_of_link, link_of
from keras_makeavid.app.sessions import Cancelled, Session
from keras_makeavid.models.parts import FEW_STEPS
from keras_makeavid.moving_shapes import note_on
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.schedulers.registry import SCHEDULERS

# What the model in the box knows, and what people like to see of others.
_SHAPES = [
    "a red star moving left",
    "a blue square spinning on a grey background",
    "a white dancer waving",
    "a yellow circle bouncing",
]
_SCENES = ["a cat that walks in the snow", "dancing in the rain", "waves at the beach"]
# One work at a time on the models, videos and evaluations together.
_QUEUE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
_QUEUE["preprocess"] = False
_QUICK: dict[str, Any] = {"queue": False, "api_visibility": "private"}
_HIDDEN: dict[str, Any] = {**_QUICK, "show_progress": "hidden"}
_GALLERY: dict[str, Any] = {"columns": 6, "fit_columns": False, "interactive": False}
_GALLERY["object_fit"] = "contain"
_SECONDS_BETWEEN_LOOKS = 10
# What few steps change; what another model changes, and of that the sizes.
_OF_STEPS = ("steps", "scheduler", "guidance", "image_guidance")
_OF_MODEL = ("frames", "height", "width", "fps", "few_steps", *_OF_STEPS)


def build_page(handlers: Handlers) -> gr.Blocks:
    """Lay out the page of what the handlers do."""
    with gr.Blocks(title="keras-makeavid", analytics_enabled=False) as page:
        gr.Markdown("# Make a video")
        with gr.Tabs():
            with gr.Tab("Make"):
                _MakeTab(handlers, page)
            with gr.Tab("Evaluate"):
                _add_evaluation(handlers)
            if handlers.run is not None:
                with gr.Tab("Run"):
                    _add_run(handlers, page)

        def leave(request: gr.Request):
            _session_of(handlers, request).cancel()

        page.unload(leave)
    return page


def _choice_of_model(handlers):
    names = list(handlers.tasks)
    return gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)


def _session_of(handlers: Handlers, request: gr.Request) -> Session:
    """The session of who sent a request."""
    return handlers.sessions.of(request.session_hash)


def _said(step: Step) -> str:
    """Tell how far a work is."""
    left = step.seconds_left
    about = "" if left is None else f", about {left:.0f} s left"
    return f"Step {step.done} of {step.total}{about}"


def _refused(text: str) -> gr.Error:
    """An error for a visitor, of which the terminal need not hear."""
    return gr.Error(text, print_exception=False)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell a visitor in a sentence why a request failed."""
    try:
        yield
    except Cancelled:
        raise _refused("Cancelled.") from None
    except (ValueError, FileNotFoundError) as error:
        raise _refused(str(error)) from None
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        kind = type(error).__name__
        raise _refused(f"This failed on the server ({kind}).") from None


class _MakeTab:
    """The form, and what comes of it."""

    def __init__(self, handlers: Handlers, page: gr.Blocks):
        self._handlers = handlers
        preset = next(iter(handlers.tasks))
        with gr.Row():
            with gr.Column():
                self._lay_out_form(preset)
            with gr.Column():
                self._lay_out_results()
        self._wire(page)

    def _lay_out_form(self, preset):
        kind = self._handlers.forms[preset]
        usual, labels = kind(), kind.labels
        form: dict[str, Any] = {}
        self._form = form

        def slider(name, step=None):
            least, most = bounds_of(kind, name)
            # Sizes have steps from it on.
            least, value = max(least, step or least), getattr(usual, name)
            form[name] = gr.Slider(least, most, value, step=step, label=labels[name])

        def text(name, **options):
            form[name] = gr.Textbox("", label=labels[name], max_length=2000, **options)

        self._preset = _choice_of_model(self._handlers)
        text("prompt", placeholder="What to show", autofocus=True)
        gr.Examples(
            _SHAPES if preset == DEFAULT_PRESET else _SCENES,
            form["prompt"],
            label="Try one of these",
            api_visibility="private",
        )
        with gr.Row():
            self._make = gr.Button("Make the video", variant="primary")
            self._cancel = gr.Button("Cancel")
        text("negative_prompt")
        with gr.Accordion("Size, steps and seed", open=False):
            with gr.Row():
                slider("frames", 1)
                slider("fps", 1)
            with gr.Row():
                slider("width", 32)
                slider("height", 32)
            slider("steps", 1)
            form["few_steps"] = gr.Checkbox(
                label=labels["few_steps"],
                info="By the model's own adapter if it has one; else for models and "
                "adapters that were made for it, such as LCM-LoRA",
            )
            form["scheduler"] = gr.Dropdown(
                list(SCHEDULERS), value=usual.scheduler, label=labels["scheduler"]
            )
            with gr.Row():
                slider("guidance")
                slider("image_guidance")
            with gr.Row():
                least, most = bounds_of(kind, "seed")
                form["seed"] = gr.Number(
                    0, precision=0, minimum=least, maximum=most, label=labels["seed"]
                )
                self._dice = gr.Button("🎲 New seed")
                form["keep_seed"] = gr.Checkbox(label=labels["keep_seed"])
        with gr.Accordion("Start from a picture", open=False):
            self._hint = Painting(
                label="Paint what is made anew",
                sources=("upload", "webcam", "clipboard"),
                brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"),
                layers=False,
                transforms=(),
                format="png",
                elem_id="hint",
            )
        with gr.Accordion("Keyframes", open=False):
            self._keyframes = gr.Gallery(label="Pictures", interactive=True, height=200)
            text(
                "keyframes_at",
                info="A number for each picture: 0 is the first frame, -1 the last",
                placeholder="0, 8, -1",
            )
        with gr.Accordion("Change a video", open=False):
            self._video = gr.Video(label="Video to change", sources=["upload"])
            slider("strength")
        with gr.Accordion("Adapter (LoRA)", open=False):
            self._lora = gr.File(label="File", file_types=[".safetensors"])
            slider("lora_scale")
        self._previews = gr.Checkbox(True, label="Show a preview while it is made")

    def _lay_out_results(self):
        self._status = gr.Markdown("", elem_id="status")
        self._preview = gr.Image(
            label="Preview", visible=False, buttons=[], elem_id="preview"
        )
        self._result = gr.Video(
            label="Video", autoplay=True, loop=True, elem_id="result", interactive=False
        )
        with gr.Row():
            self._again = gr.Button("Same seed again", interactive=False)
            self._last_frame = gr.Button("Go on from the last frame", interactive=False)
        self._history = gr.Gallery(
            label="Made before",
            show_label=False,
            height=150,
            allow_preview=False,
            visible=False,
            elem_id="history",
            **_GALLERY,
        )
        self._files = gr.File(
            label="Download", file_count="multiple", interactive=False, visible=False
        )
        with gr.Accordion("Make the same video elsewhere", open=False):
            self._link = gr.Textbox(
                label="Link with all settings, but for pictures and files",
                buttons=["copy"],
                interactive=False,
                elem_id="link",
            )
            self._python = gr.Code(label="Python", language="python", elem_id="python")
            self._command = gr.Textbox(
                label="Command", lines=3, buttons=["copy"], interactive=False
            )

    def _wire(self, page):
        form, handlers = self._form, self._handlers
        sent = {"preset": self._preset, **form, "hint": self._hint}
        sent |= {"keyframes": self._keyframes, "video": self._video}
        sent |= {"lora": self._lora, "previews": self._previews}
        shown = [
            *(self._status, self._preview, self._result, self._again),
            *(self._last_frame, self._history, self._files),
            *(self._link, self._python, self._command, form["seed"]),
        ]
        how = {"inputs_kwargs": sent, "outputs": shown, **_QUEUE}
        how["show_progress_on"] = self._result
        begin = [self._make.click, form["prompt"].submit]
        making = gr.on(begin, self._generate, api_name="generate", **how)
        again = self._again.click(self._generate_again, api_visibility="private", **how)

        def cancel(request: gr.Request):
            _session_of(handlers, request).cancel()
            return "Cancelled.", gr.Image(None, visible=False)

        stopped, begun = [self._status, self._preview], [making, again]
        self._cancel.click(cancel, None, stopped, cancels=begun, **_HIDDEN)
        seed = [form["seed"], form["keep_seed"]]
        self._dice.click(
            lambda: (secrets.randbelow(2**32), True), None, seed, **_HIDDEN
        )
        changed = [form[name] for name in _OF_STEPS]
        few = [form["few_steps"], self._preset]
        form["few_steps"].input(self._switch_few_steps, few, changed, **_HIDDEN)
        every = list(form.values())
        self._preset.input(self._switch_preset, self._preset, every, **_HIDDEN)
        self._history.select(self._show_again, None, shown, **_HIDDEN)
        self._last_frame.click(self._go_on, None, self._hint, **_HIDDEN)
        page.load(self._restore, None, [self._preset, *every], **_HIDDEN)

    def _generate(self, request: gr.Request, **sent: Any):
        session = _session_of(self._handlers, request)
        form = {name: sent[name] for name in self._form}
        yield {self._status: "It begins ...", self._result: None}
        if sent["preset"] == DEFAULT_PRESET and (note := note_on(str(form["prompt"]))):
            gr.Info(note)
        try:
            with _told(), tempfile.TemporaryDirectory(dir=session.folder) as folder:
                picture, layers = self._hint.taken(sent["hint"], Path(folder))
                images = [each.get("image") for each in sent["keyframes"] or []]
                keyframes = tuple(path for path in map(path_of, images) if path)
                files = path_of(sent["video"]), path_of(sent["lora"])
                mask = layers[0] if layers else None
                uploads = Uploads(picture, mask, keyframes, *files)
                events = self._handlers.generate(
                    session, sent["preset"], form, uploads, bool(sent["previews"])
                )
                for event in events:
                    if isinstance(event, Made):
                        yield self._shown(event, session, request)
                    elif event.preview:
                        picture = gr.Image(str(event.preview), visible=True)
                        yield {self._status: _said(event), self._preview: picture}
                    else:
                        yield {self._status: _said(event)}
        except gr.Error as error:
            nothing = gr.Image(None, visible=False)
            yield {self._status: error.message, self._preview: nothing}
            raise

    def _generate_again(self, request: gr.Request, **sent: Any):
        made = _session_of(self._handlers, request).shown
        if made is not None:
            sent |= {"seed": made.request.form.seed, "keep_seed": True}
        yield from self._generate(request, **sent)

    def _shown(self, made: Made, session: Session, request: gr.Request):
        asked = made.request
        address = request.headers.get("referer", "").partition("?")[0]
        history = [
            (str(m.folder / "video.webp"), f"seed {m.request.form.seed}")
            for m in session.history
        ]
        return {
            self._status: f"Made in {made.seconds:.1f} s with seed {asked.form.seed}.",
            self._preview: gr.Image(None, visible=False),
            self._result: str(made.path),
            self._again: gr.Button(interactive=True),
            self._last_frame: gr.Button(interactive=True),
            self._history: gr.Gallery(history, visible=True, selected_index=None),
            self._files: gr.File([str(path) for path in made.files()], visible=True),
            self._link: f"{address}?{link_of(asked.preset, asked.form)}",
            self._python: asked.as_python(),
            self._command: asked.as_command(),
            self._form["seed"]: asked.form.seed,
        }

    def _show_again(self, request: gr.Request, event: gr.SelectData):
        session = _session_of(self._handlers, request)
        if event.index >= len(session.history):
            raise _refused("This video is not here any more.")
        session.shown = session.history[event.index]
        return self._shown(session.shown, session, request)

    def _go_on(self, request: gr.Request):
        made = _session_of(self._handlers, request).shown
        if made is None:
            raise _refused("There is no video yet.")
        picture = str(made.last_frame)
        gr.Info("The last frame is the picture that the next video starts from.")
        return {"background": picture, "layers": [], "composite": picture}

    def _switch_few_steps(self, few, preset):
        if few:
            guidance = FEW_STEPS["guidance_scale"]
            return FEW_STEPS["num_steps"], FEW_STEPS["scheduler"], guidance, guidance
        usual = self._handlers.forms[preset]()
        return tuple(getattr(usual, name) for name in _OF_STEPS)

    def _switch_preset(self, preset):
        """A model's own size, length and guidance; what it is told to show stays."""
        kind = self._handlers.forms[preset]
        usual = kind()
        changes: list[Any] = []
        for name in self._form:
            value = getattr(usual, name) if name in _OF_MODEL else gr.skip()
            if name in ("frames", "height", "width"):
                value = gr.Slider(maximum=bounds_of(kind, name)[1], value=value)
            changes.append(value)
        return changes

    def _restore(self, request: gr.Request):
        """The settings of a link."""
        query = dict(request.query_params)
        if not query.keys() & {"preset", *self._form}:
            # Who types already is left alone.
            return [gr.skip()] * (1 + len(self._form))
        preset = query.get("preset", next(iter(self._handlers.tasks)))
        try:
            self._handlers.check_preset(preset)
            form = form_of_link(query, self._handlers.forms[preset])
        except ValueError as error:
            gr.Warning(f"The link is not understood: {error}")
            return [gr.skip()] * (1 + len(self._form))
        said = [getattr(form, n) if n in query else gr.skip() for n in self._form]
        return [preset, *said]


def _add_evaluation(handlers: Handlers) -> None:
    """Lay out the tab that evaluates a model."""
    gr.Markdown(
        "This makes videos of moving shapes, and measures how often they show what "
        "their prompts say. Half of the prompts say what training shows, the others "
        "what it never shows."
    )
    preset = _choice_of_model(handlers)
    with gr.Row():
        # Gradio refuses what lies beyond them, and rounds the rest.
        whole: dict[str, Any] = {"step": 1, "precision": 0}
        count = gr.Slider(1, 8, 2, label="Prompts of each kind", **whole)
        seeds = gr.Slider(1, 4, 1, label="Videos of each prompt", **whole)
        steps = gr.Slider(1, 100, 20, label="Steps", **whole)
    with gr.Row():
        begin = gr.Button("Evaluate", variant="primary")
        end = gr.Button("Cancel")
    status = gr.Markdown("", elem_id="evaluation-status")
    table = gr.Markdown("", elem_id="table")
    videos = gr.HTML("", css_template="figure { display: inline-block }")

    def evaluate(request: gr.Request, preset, count, seeds, steps):
        session = _session_of(handlers, request)
        with _told():
            for event in handlers.evaluate(session, preset, count, seeds, steps):
                if isinstance(event, Evaluated):
                    yield {status: "Done.", table: event.table, videos: event.videos}
                else:
                    yield {status: _said(event)}

    def cancel(request: gr.Request):
        _session_of(handlers, request).cancel()
        return "Cancelled."

    sent, shown = [preset, count, seeds, steps], [status, table, videos]
    how = {**_QUEUE, "preprocess": True, "show_progress_on": table}
    running = begin.click(evaluate, sent, shown, api_name="evaluate", **how)
    end.click(cancel, None, status, cancels=running, **_QUICK)


def _add_run(handlers: Handlers, page: gr.Blocks) -> None:
    """Lay out the tab that shows a run's curves and samples while it trains."""
    import pandas

    where = gr.Markdown("", elem_id="run-status")
    curves = {"loss": "Loss", "lr": "Learning rate"}
    curves["grad_norm"] = "Norm of the gradients"
    with gr.Row():
        plots = [
            gr.LinePlot(x="step", y=name, label=label, height=250)
            for name, label in curves.items()
        ]
    samples = gr.Gallery(label="Newest samples", **_GALLERY)

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

    outputs = [where, *plots, samples]
    page.load(look, None, outputs, **_HIDDEN)
    gr.Timer(_SECONDS_BETWEEN_LOOKS).tick(look, None, outputs, **_HIDDEN)
