"""The page: its tabs, and that which makes videos."""

from __future__ import annotations

import contextlib
import secrets
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import gradio as gr

from keras_makeavid.app.handlers import Handlers, Made, Step, Uploads
from keras_makeavid.app.painting import Painting, path_of
from keras_makeavid.app.request import (
    LABELS,
    MAX_SEED,
    Limits,
    form_of_link,
    link_of,
)
from keras_makeavid.app.sessions import Session
from keras_makeavid.app.work import Cancelled
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
QUEUE: dict[str, Any] = {
    "concurrency_id": "model",
    "concurrency_limit": 1,
    "preprocess": False,
}


def build_page(handlers: Handlers) -> gr.Blocks:
    """Lay out the page.

    Args:
        handlers: What it does.
    """
    from keras_makeavid.app import tabs

    with gr.Blocks(title="keras-makeavid", analytics_enabled=False) as page:
        gr.Markdown("# Make a video")
        with gr.Tabs():
            with gr.Tab("Make"):
                _MakeTab(handlers, page)
            with gr.Tab("Evaluate"):
                tabs.add_evaluation(handlers)
            if handlers.run is not None:
                with gr.Tab("Run"):
                    tabs.add_run(handlers, page)

        def leave(request: gr.Request):
            session_of(handlers, request).cancel()

        page.unload(leave)
    return page


def session_of(handlers: Handlers, request: gr.Request) -> Session:
    """The session of who sent a request."""
    return handlers.sessions.of(request.session_hash)


def said(step: Step) -> str:
    """Tell how far a work is."""
    left = ""
    if step.seconds_left is not None:
        left = f", about {step.seconds_left:.0f} s left"
    return f"Step {step.done} of {step.total}{left}"


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Tell a visitor in a sentence why a request failed."""
    try:
        yield
    except Cancelled:
        raise gr.Error("Cancelled.", print_exception=False) from None
    # Of what they sent: no news for the terminal.
    except (ValueError, FileNotFoundError) as error:
        raise gr.Error(str(error), print_exception=False) from None
    except Exception as error:
        traceback.print_exception(error, file=sys.stderr)
        kind = type(error).__name__
        raise gr.Error(
            f"This failed on the server ({kind}).", print_exception=False
        ) from None


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
        usual = self._handlers.forms[preset]()
        limits = Limits.of(self._handlers.tasks[preset])
        presets = list(self._handlers.tasks)
        form: dict[str, Any] = {}
        self._form = form

        def slider(name, least, most, step=None):
            value = getattr(usual, name)
            form[name] = gr.Slider(least, most, value, step=step, label=LABELS[name])

        def text(name, **options):
            form[name] = gr.Textbox("", label=LABELS[name], max_length=2000, **options)

        self._preset = gr.Dropdown(
            presets, value=preset, label="Model", visible=len(presets) > 1
        )
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
                slider("frames", 1, limits.frames, 1)
                slider("fps", 1, limits.fps, 1)
            with gr.Row():
                slider("width", 32, limits.side, 32)
                slider("height", 32, limits.side, 32)
            slider("steps", 1, limits.steps, 1)
            self._few_steps = gr.Checkbox(
                label="Few steps",
                info="For models and adapters that were made for it, such as LCM-LoRA",
            )
            form["scheduler"] = gr.Dropdown(
                list(SCHEDULERS), value=usual.scheduler, label=LABELS["scheduler"]
            )
            with gr.Row():
                slider("guidance", 1, limits.guidance)
                slider("image_guidance", 1, limits.guidance)
            with gr.Row():
                form["seed"] = gr.Number(
                    0, precision=0, minimum=0, maximum=MAX_SEED, label=LABELS["seed"]
                )
                self._dice = gr.Button("🎲 New seed")
                form["keep_seed"] = gr.Checkbox(label=LABELS["keep_seed"])
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
            slider("strength", 0, 1)
        with gr.Accordion("Adapter (LoRA)", open=False):
            self._lora = gr.File(label="File", file_types=[".safetensors"])
            slider("lora_scale", -2, 2)
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
            columns=6,
            height=150,
            fit_columns=False,
            object_fit="contain",
            allow_preview=False,
            interactive=False,
            visible=False,
            elem_id="history",
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
        sent = {
            "preset": self._preset,
            **form,
            "hint": self._hint,
            "keyframes": self._keyframes,
            "video": self._video,
            "lora": self._lora,
            "previews": self._previews,
        }
        shown = [
            *(self._status, self._preview, self._result, self._again),
            *(self._last_frame, self._history, self._files),
            *(self._link, self._python, self._command, form["seed"]),
        ]
        how: dict[str, Any] = {
            "inputs_kwargs": sent,
            "show_progress_on": self._result,
            **QUEUE,
        }
        making = gr.on(
            [self._make.click, form["prompt"].submit],
            self._generate,
            outputs=shown,
            api_name="generate",
            **how,
        )
        again = self._again.click(
            self._generate_again, outputs=shown, api_visibility="private", **how
        )
        quick: dict[str, Any] = {
            "queue": False,
            "api_visibility": "private",
            "show_progress": "hidden",
        }

        def cancel(request: gr.Request):
            session_of(handlers, request).cancel()
            return "Cancelled.", gr.Image(None, visible=False)

        self._cancel.click(
            cancel,
            None,
            [self._status, self._preview],
            cancels=[making, again],
            **quick,
        )
        self._dice.click(
            lambda: (secrets.randbelow(2**32), True),
            None,
            [form["seed"], form["keep_seed"]],
            **quick,
        )
        names = ("steps", "scheduler", "guidance", "image_guidance")
        self._few_steps.input(
            self._switch_few_steps,
            [self._few_steps, self._preset],
            [form[name] for name in names],
            **quick,
        )
        self._preset.input(
            self._switch_preset, self._preset, list(form.values()), **quick
        )
        self._history.select(self._show_again, None, shown, **quick)
        self._last_frame.click(self._go_on, None, self._hint, **quick)
        page.load(self._restore, None, [self._preset, *form.values()], **quick)

    def _generate(self, request: gr.Request, **sent: Any):
        session = session_of(self._handlers, request)
        form = {name: sent[name] for name in self._form}
        yield {self._status: "It begins ...", self._result: None}
        if sent["preset"] == DEFAULT_PRESET and (note := note_on(str(form["prompt"]))):
            gr.Info(note)
        try:
            with told(), session.scratch() as folder:
                picture, layers = self._hint.taken(sent["hint"], folder)
                keyframes = [
                    path_of(each.get("image")) for each in sent["keyframes"] or []
                ]
                uploads = Uploads(
                    picture,
                    layers[0] if layers else None,
                    tuple(path for path in keyframes if path),
                    path_of(sent["video"]),
                    path_of(sent["lora"]),
                )
                events = self._handlers.generate(
                    session, sent["preset"], form, uploads, bool(sent["previews"])
                )
                for event in events:
                    if isinstance(event, Made):
                        yield self._shown(event, session, request)
                        continue
                    shown: dict[Any, Any] = {self._status: said(event)}
                    if event.preview:
                        shown[self._preview] = gr.Image(
                            str(event.preview), visible=True
                        )
                    yield shown
        except gr.Error as error:
            nothing = gr.Image(None, visible=False)
            yield {self._status: error.message, self._preview: nothing}
            raise

    def _generate_again(self, request: gr.Request, **sent: Any):
        made = session_of(self._handlers, request).shown
        if made is not None:
            sent |= {"seed": made.request.form.seed, "keep_seed": True}
        yield from self._generate(request, **sent)

    def _shown(self, made: Made, session: Session, request: gr.Request):
        asked = made.request
        address = request.headers.get("referer", "").partition("?")[0]
        history = [
            (str(m.picture), f"seed {m.request.form.seed}") for m in session.history
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
        session = session_of(self._handlers, request)
        if event.index >= len(session.history):
            raise gr.Error("This video is not here any more.", print_exception=False)
        session.shown = session.history[event.index]
        return self._shown(session.shown, session, request)

    def _go_on(self, request: gr.Request):
        made = session_of(self._handlers, request).shown
        if made is None:
            raise gr.Error("There is no video yet.", print_exception=False)
        picture = str(made.last_frame)
        gr.Info("The last frame is the picture that the next video starts from.")
        return {"background": picture, "layers": [], "composite": picture}

    def _switch_few_steps(self, few, preset):
        if few:
            return 4, "lcm", 1.0, 1.0
        usual = self._handlers.forms[preset]()
        return usual.steps, usual.scheduler, usual.guidance, usual.image_guidance

    def _switch_preset(self, preset):
        """A model's own size, length and guidance; what it is told to show stays."""
        usual = self._handlers.forms[preset]()
        limits = Limits.of(self._handlers.tasks[preset])
        most = {"frames": limits.frames, "width": limits.side, "height": limits.side}
        own = ("frames", "height", "width", "fps", "guidance", "image_guidance")
        changes: list[Any] = []
        for name in self._form:
            if name in most:
                changes.append(
                    gr.Slider(maximum=most[name], value=getattr(usual, name))
                )
            else:
                changes.append(getattr(usual, name) if name in own else gr.skip())
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
