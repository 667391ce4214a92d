"""A page in the browser around a preset: everything `generate` takes, as a form.

pip install 'keras-makeavid[jax,app]'
python examples/app.py            # the model in the box
python examples/app.py PRESET
"""

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

import keras_makeavid as km
from keras_makeavid.presets import DEFAULT_PRESET
from keras_makeavid.schedulers.registry import SCHEDULERS


def build_app(task: km.TextToVideo, folder: Path) -> gr.Blocks:
    """The page; videos are written to `folder`."""

    def generate(
        prompt, negative, hint, mask, steps, guidance, image_guidance, frames, height,
        width, fps, seed, scheduler, form, progress=gr.Progress(),  # noqa: B008
    ):  # fmt: skip
        try:
            video = task.generate(
                prompt,
                negative_prompts=negative,
                hint_image=hint and km.video.read_image(hint),
                mask_image=mask and km.video.read_mask(mask),
                num_frames=frames,
                height=height,
                width=width,
                num_steps=steps,
                guidance_scale=guidance,
                image_guidance_scale=image_guidance,
                scheduler=scheduler,
                seed=seed,
                progress=lambda step, total: progress((step, total)),
            )[0]
            # A folder for each request: two may have one seed.
            path = Path(tempfile.mkdtemp(dir=folder), f"{seed}.{form}")
            km.video.write_video(path, video, fps=fps)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        as_video = form == "mp4"
        return str(path) if as_video else None, None if as_video else str(path)

    with gr.Blocks(title="keras-makeavid") as app:
        with gr.Row():
            with gr.Column():
                inputs = [
                    gr.Textbox("", label="Prompt"),
                    gr.Textbox("", label="Negative prompt"),
                    gr.Image(label="Hint image", type="filepath", image_mode=None),
                    gr.Image(label="Mask: white is filled", type="filepath"),
                    gr.Slider(1, 100, 20, step=1, label="Steps"),
                    gr.Slider(1, 30, task.guidance_scale, label="Guidance"),
                    gr.Slider(
                        1, 30, task.guidance_scale, label="Guidance of the first frame"
                    ),
                    gr.Slider(1, 48, task.num_frames, step=1, label="Frames"),
                    gr.Slider(32, 1024, task.height, step=32, label="Height"),
                    gr.Slider(32, 1024, task.width, step=32, label="Width"),
                    gr.Slider(1, 30, task.fps, step=1, label="Frames a second"),
                    gr.Number(0, precision=0, label="Seed"),
                    gr.Dropdown(list(SCHEDULERS), value="dpm++2m", label="Scheduler"),
                    gr.Dropdown(["mp4", "gif", "webp"], value="mp4", label="Format"),
                ]
                for component in inputs:
                    component.preprocess = functools.partial(_as_sent, component)
                button = gr.Button("Generate", variant="primary")
            with gr.Column():
                outputs = [gr.Video(label="Video"), gr.Image(label="Animated picture")]
        button.click(generate, inputs, outputs)
    return app


def _as_sent(component: gr.components.Component, payload: Any) -> Any:
    """What a client sent, if it is of the component's kind.

    Gradio makes text of a number, rounds a seed, and stumbles over other things.
    """
    number = isinstance(payload, int | float) and not isinstance(payload, bool)
    match component:
        case gr.Image():
            return payload and payload.path
        case gr.Textbox():
            fits, expected = isinstance(payload, str), "text"
        case gr.Number():
            fits, expected = type(payload) is int and payload >= 0, "an integer from 0"
        case gr.Slider():
            least, most = component.minimum, component.maximum
            fits = number and least <= payload <= most
            expected = f"a number from {least} to {most}"
        case _:
            choices = [value for _, value in component.choices]
            fits, expected = payload in choices, f"one of {choices}"
    if fits:
        return payload
    # A sentence for the user, and no traceback on the terminal.
    text = f"{component.label} must be {expected}. Received: {payload!r}"
    raise gr.Error(text, print_exception=False)


def main():
    """Serve the page on this machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default=DEFAULT_PRESET)
    options = parser.parse_args()
    task = km.TextToVideo.from_preset(options.preset)
    with tempfile.TemporaryDirectory() as folder:
        build_app(task, Path(folder)).launch(show_error=True)


if __name__ == "__main__":
    main()
