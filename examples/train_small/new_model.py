"""A small text-to-image model of the full-size classes, not trained yet.

    python examples/train_small/new_model.py PRESET

It is Stable Diffusion's inpainting model in small: exact GELU and the other constants
are those, so that it can leave as a diffusers pipeline and be inflated.
"""

import sys

import keras

import keras_makeavid as km
from keras_makeavid import models, schedulers, text
from keras_makeavid.moving_shapes import MotionClips

SEED = 0
# Captions that the vocabulary is learnt from: every word comes many times.
CAPTIONS = 4000


def new_model() -> km.TextToVideo:
    """The model, its weights drawn from `SEED`."""
    keras.utils.set_random_seed(SEED)
    clips = MotionClips(SEED)
    vocabulary = text.learn_vocabulary(map(clips.caption, range(CAPTIONS)))
    preprocessor = text.TextToVideoPreprocessor(
        vocabulary.tokens, vocabulary.merges, sequence_length=24
    )
    text_encoder = text.TextEncoder(
        vocabulary_size=len(vocabulary.tokens),
        embedding_dim=128,
        hidden_dim=128,
        num_layers=2,
        num_heads=4,
        intermediate_dim=512,
        max_sequence_length=preprocessor.sequence_length,
    )
    vae = models.AutoencoderKL(
        latent_channels=8,
        block_channels=(16, 32, 64, 128),
        layers_per_block=1,
        groups=8,
        scaling_factor=1.0,
    )
    unet = models.UNetPseudo3D(
        in_channels=2 * vae.latent_channels + 1,
        out_channels=vae.latent_channels,
        block_channels=(48, 96),
        attention_levels=(True, True),
        layers_per_block=1,
        num_heads=4,
        context_dim=128,
        groups=16,
        gelu="exact",
        transformer_epsilon=1e-6,
        temporal=False,
    )
    return km.TextToVideo(
        backbone=unet,
        preprocessor=preprocessor,
        text_encoder=text_encoder,
        vae=vae,
        # With the published schedule some of the latent's mean is left at the last
        # step, which generation, from pure noise, would draw towards the data's mean.
        schedule=schedulers.NoiseSchedule(
            prediction_type="v_prediction", zero_terminal_snr=True
        ),
        height=64,
        width=64,
        num_frames=16,
        origin={"base_model": "none", "license": "apache-2.0"},
    )


def main():
    """Make the model, save it and say how large its parts are."""
    (folder,) = sys.argv[1:]
    task = new_model()
    for name in ("backbone", "text_encoder", "vae"):
        print(f"{name}: {getattr(task, name).count_params():,} parameters")
    task.save_to_preset(folder)
    print(folder)


if __name__ == "__main__":
    main()
