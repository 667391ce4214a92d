"""The page: what is where, and which handler each button has."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import gradio as gr

from keras_makeavid.app.handlers import Handlers, Made, Step, Uploads
from keras_makeavid.app.painting import Painting, path_of
from keras_makeavid.app.request import Limits
from keras_makeavid.app.work import Cancelled
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.schedulers.registry import SCHEDULERS

# What the model in the box knows; any other is shown what people like to see.
_SHAPES = [
    "a red star moving left",
    "a blue square spinning on a grey background",
    "a white dancer waving",
    "a yellow circle bouncing",
]
_SCENES = ["a cat that walks in the snow", "dancing in the rain", "waves at the beach"]
# One work at a time on the model, videos and evaluations together.
_QUEUE = {"concurrency_id": "model", "concurrency_limit": 1}


def build_page(handlers: Handlers) -> gr.Blocks:
    """Lay out the page.

    Args:
        handlers: What it does.
    """
    with gr.Blocks(title="keras-makeavid", analytics_enabled=False) as page:
        gr.Markdown("# Make a video")
        with gr.Tabs(), gr.Tab("Make"):
            _MakeTab(handlers, page)
    return page


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
        usual, limits = self._handlers.forms[preset](), self._limits(preset)
        presets = list(self._handlers.tasks)
        self.preset = gr.Dropdown(
            presets, value=preset, label="Model", visible=len(presets) > 1
        )
        form: dict[str, Any] = {}
        form["prompt"] = gr.Textbox(
            "",
            label="Prompt",
            placeholder="What to show",
            autofocus=True,
            max_length=2000,
        )
        known = _SHAPES if preset == DEFAULT_PRESET else _SCENES
        gr.Examples(
            known, form["prompt"], label="Try one of these", api_visibility="private"
        )
        with gr.Row():
            self.make = gr.Button("Make the video", variant="primary")
            self.cancel = gr.Button("Cancel")
        form["negative_prompt"] = gr.Textbox("", label="What to avoid", max_length=2000)
        with gr.Accordion("Size, steps and seed", open=False):
            with gr.Row():
                form["frames"] = gr.Slider(
                    1, limits.frames, usual.frames, step=1, label="Frames"
                )
                form["fps"] = gr.Slider(
                    1, limits.fps, usual.fps, step=1, label="Frames a second"
                )
            with gr.Row():
                form["width"] = gr.Slider(
                    32, limits.side, usual.width, step=32, label="Width"
                )
                form["height"] = gr.Slider(
                    32, limits.side, usual.height, step=32, label="Height"
                )
            form["steps"] = gr.Slider(
                1, limits.steps, usual.steps, step=1, label="Steps"
            )
            self.few_steps = gr.Checkbox(
                label="Few steps",
                info="For models and adapters that were made for it, such as LCM-LoRA",
            )
            form["scheduler"] = gr.Dropdown(
                list(SCHEDULERS), value=usual.scheduler, label="Scheduler"
            )
            form["guidance"] = gr.Slider(
                1, limits.guidance, usual.guidance, label="Guidance"
            )
            form["image_guidance"] = gr.Slider(
                1,
                limits.guidance,
                usual.image_guidance,
                label="Guidance of the first frame",
            )
            with gr.Row():
                form["seed"] = gr.Number(
                    usual.seed, precision=0, minimum=0, label="Seed"
                )
                self.dice = gr.Button("🎲 New seed")
                form["keep_seed"] = gr.Checkbox(label="Keep the seed")
        with gr.Accordion("Start from a picture", open=False):
            self.hint = Painting(
                label="Paint what is to be made anew; the rest is kept",
                sources=("upload", "webcam", "clipboard"),
                brush=gr.Brush(colors=["#ffffff"], color_mode="fixed"),
                layers=False,
                transforms=(),
                format="png",
                type="filepath",
            )
        with gr.Accordion("Keyframes", open=False):
            self.keyframes = gr.Gallery(
                label="Pictures of frames",
                type="filepath",
                interactive=True,
                height=200,
            )
            form["keyframes_at"] = gr.Textbox(
                "",
                label="Frames of the keyframes",
                info="One number a picture. 0 is the first frame, -1 the last",
                placeholder="0, 8, -1",
            )
        with gr.Accordion("Change a video", open=False):
            self.video = gr.Video(label="Video to change", sources=["upload"])
            form["strength"] = gr.Slider(
                0, 1, usual.strength, label="How much may change"
            )
        with gr.Accordion("Adapter (LoRA)", open=False):
            self.lora = gr.File(label="File", file_types=[".safetensors"])
            form["lora_scale"] = gr.Slider(
                -2, 2, usual.lora_scale, label="Weight of the adapter"
            )
        self.previews = gr.Checkbox(True, label="Show a preview while it is made")
        self.form = form

    def _lay_out_results(self):
        self.status = gr.Markdown("", elem_id="status")
        self.preview = gr.Image(
            label="Preview", type="filepath", visible=False, buttons=[]
        )
        self.result = gr.Video(
            label="Video", autoplay=True, loop=True, elem_id="result"
        )
        self.files = gr.File(label="Files", file_count="multiple", visible=False)

    def _limits(self, preset):
        return Limits.of(self._handlers.tasks[preset])

    def _wire(self, page):
        inputs = [
            *(self.preset, *self.form.values()),
            *(self.hint, self.keyframes, self.video, self.lora, self.previews),
        ]
        outputs = [
            *(self.status, self.preview, self.result, self.files),
            self.form["seed"],
        ]
        making = gr.on(
            [self.make.click, self.form["prompt"].submit],
            self._generate,
            inputs,
            outputs,
            preprocess=False,
            api_name="generate",
            show_progress_on=self.result,
            **_QUEUE,
        )
        self.cancel.click(
            self._cancel, None, self.status, cancels=making, api_name="cancel"
        )

    def _generate(self, request: gr.Request, preset, *values):
        session = self._handlers.sessions.of(request.session_hash)
        count = len(self.form)
        values, (hint, keyframes, video, lora, previews) = (
            values[:count],
            values[count:],
        )
        folder = session.new_folder()
        picture, layers = self.hint.taken(hint, folder)
        uploads = Uploads(
            picture,
            layers[0] if layers else None,
            tuple(p for p in map(path_of, [k["image"] for k in keyframes or []]) if p),
            path_of(video),
            path_of(lora),
        )
        form = dict(zip(self.form, values, strict=True))
        yield {self.status: "It begins ...", self.result: None}
        with _told():
            for event in self._handlers.generate(
                session, preset, form, uploads, bool(previews)
            ):
                if isinstance(event, Step):
                    shown: dict[Any, Any] = {self.status: _said(event)}
                    if event.preview:
                        shown[self.preview] = gr.Image(str(event.preview), visible=True)
                    yield shown
                else:
                    yield self._shown(event)

    def _shown(self, made: Made):
        form = made.request.form
        return {
            self.status: f"Made in {made.seconds:.1f} s with seed {form.seed}.",
            self.preview: gr.Image(None, visible=False),
            self.result: str(made.path),
            self.files: gr.File([str(path) for path in made.files()], visible=True),
            self.form["seed"]: form.seed,
        }

    def _cancel(self, request: gr.Request):
        self._handlers.sessions.of(request.session_hash).cancel()
        return "Cancelled."


class _told:
    """Tell a visitor in a sentence why a request failed."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is None or not isinstance(error, Exception):
            return False
        if isinstance(error, Cancelled):
            raise gr.Error("Cancelled.", print_exception=False) from None
        if isinstance(error, ValueError | OSError):
            raise gr.Error(str(error), print_exception=False) from None
        traceback.print_exception(error, file=sys.stderr)
        raise gr.Error(
            f"This failed on the server: {type(error).__name__}",
            print_exception=False,
        ) from None


def _said(step: Step) -> str:
    left = ""
    if step.seconds_left is not None:
        left = f", about {step.seconds_left:.0f} s left"
    return f"Step {step.done} of {step.total}{left}"
