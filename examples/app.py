"""A page in the browser around a preset: everything `generate` takes, as a form.

pip install 'keras-makeavid[jax,app]'
python examples/app.py PRESET
"""

import argparse
import tempfile
from pathlib import Path

import gradio as gr

import keras_makeavid as km
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
                hint_image=hint,
                mask_image=mask,
                num_frames=int(frames),
                height=int(height),
                width=int(width),
                num_steps=int(steps),
                guidance_scale=guidance,
                image_guidance_scale=image_guidance,
                scheduler=scheduler,
                seed=int(seed),
                progress=lambda step, total: progress((step, total)),
            )[0]
            path = folder / f"{int(seed)}.{form}"
            km.video.write_video(path, video, fps=fps)
        except ValueError as error:
            raise gr.Error(str(error)) from error
        as_video = form == "mp4"
        return str(path) if as_video else None, None if as_video else str(path)

    with gr.Blocks(title="keras-makeavid") as app:
        with gr.Row():
            with gr.Column():
                inputs = [
                    gr.Textbox(label="Prompt"),
                    gr.Textbox(label="Negative prompt"),
                    gr.Image(label="Hint image", type="numpy"),
                    gr.Image(
                        label="Mask: white is filled", type="numpy", image_mode="L"
                    ),
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
                button = gr.Button("Generate", variant="primary")
            with gr.Column():
                outputs = [gr.Video(label="Video"), gr.Image(label="Animated picture")]
        button.click(generate, inputs, outputs)
    return app


def main():
    """Serve the page on this machine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    options = parser.parse_args()
    task = km.TextToVideo.from_preset(options.preset)
    with tempfile.TemporaryDirectory() as folder:
        build_app(task, Path(folder)).launch()


if __name__ == "__main__":
    main()
