import keras
import numpy as np
import pytest
from keras import ops

from keras_makeavid.models import AutoencoderKL, UNetPseudo3D
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.text import TextEncoder
from keras_makeavid.training import AdamW, ImageDiffusion

IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype("float32")
TOKEN_IDS = np.arange(12, dtype="int32").reshape(4, 3)
BATCH = {"images": IMAGES, "token_ids": TOKEN_IDS}


@pytest.fixture
def parts():
    unet = UNetPseudo3D(
        block_channels=(8,),
        layers_per_block=1,
        attention_levels=(True,),
        groups=4,
        context_dim=8,
        num_heads=2,
    )
    vae = AutoencoderKL(block_channels=(8, 8, 8), layers_per_block=1, groups=4)
    text_encoder = TextEncoder(
        vocabulary_size=12,
        embedding_dim=8,
        hidden_dim=8,
        num_layers=1,
        num_heads=2,
        intermediate_dim=8,
        max_sequence_length=3,
    )
    return unet, vae, text_encoder


def numpy(model):
    return {v.path: ops.convert_to_numpy(v) for v in model.variables}


def moved(before, model):
    after = numpy(model)
    return {path for path in after if not np.array_equal(before[path], after[path])}


@pytest.mark.slow
def test_images_train_unet_and_text_but_neither_vae_nor_temporal_parts(parts):
    model = ImageDiffusion(
        *parts, schedule=NoiseSchedule(), train_text_encoder=True, seed=0
    )
    model.compile(optimizer=AdamW(learning_rate=1e-2))
    before = [numpy(part) for part in parts]
    model.fit(BATCH, batch_size=2, verbose=0)
    of_unet, of_vae, of_text = map(moved, before, parts)
    assert of_unet
    assert not any("temporal" in path for path in of_unet)
    assert not of_vae
    assert of_text


def test_the_text_encoder_stays_if_it_is_not_to_train(parts):
    model = ImageDiffusion(*parts, schedule=NoiseSchedule(), seed=0)
    assert not parts[2].trainable_variables
    assert {v.path for v in model.trainable_variables} == {
        v.path for v in parts[0].trainable_variables
    }


@pytest.mark.slow
def test_training_lowers_the_loss(parts):
    model = ImageDiffusion(
        *parts, schedule=NoiseSchedule(), train_text_encoder=True, seed=0
    )
    model.compile(optimizer=AdamW(learning_rate=1e-2))
    batch = {name: np.tile(v, (24, *[1] * (v.ndim - 1))) for name, v in BATCH.items()}
    losses = model.fit(batch, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.fixture
def unet_inputs(parts, monkeypatch):
    """Calls a model and returns what its UNet was given."""

    def call(model):
        seen = {}

        def record(unet, inputs):
            seen.update(inputs)
            return ops.zeros_like(inputs["sample"][..., :4])

        monkeypatch.setattr(UNetPseudo3D, "call", record)
        model(BATCH)
        return {name: ops.convert_to_numpy(value) for name, value in seen.items()}

    return call


def test_of_what_is_to_be_filled_altogether_the_hint_is_of_a_zero_image(
    parts, unet_inputs
):
    vae = parts[1]
    sample = unet_inputs(
        ImageDiffusion(*parts, schedule=NoiseSchedule(), full_mask_share=1.0, seed=0)
    )["sample"]
    np.testing.assert_array_equal(sample[..., 4:5], 1.0)
    nothing = ops.convert_to_numpy(vae.encode(np.zeros((1, 16, 16, 3), "float32")))
    np.testing.assert_allclose(
        sample[..., 5:], np.repeat(nothing, 4, axis=0), rtol=0, atol=1e-5
    )


def test_the_masked_part_of_an_image_is_zero_in_the_hint(parts, unet_inputs):
    class Cornered(ImageDiffusion):
        def _masks(self, images):
            mask = np.zeros((4, 16, 16, 1), "float32")
            mask[:, :8, :4] = 1.0
            return ops.convert_to_tensor(mask)

    sample = unet_inputs(Cornered(*parts, schedule=NoiseSchedule(), seed=0))["sample"]
    assert sample[0, :, :, 4].tolist() == [[1, 0, 0, 0]] * 2 + [[0, 0, 0, 0]] * 2
    given = IMAGES.copy()
    given[:, :8, :4] = 0.0
    hint = ops.convert_to_numpy(parts[1].encode(given))
    np.testing.assert_allclose(sample[..., 5:], hint, rtol=0, atol=1e-5)


def test_rectangles_differ_and_lie_within_the_image(parts):
    model = ImageDiffusion(
        *parts, schedule=NoiseSchedule(), full_mask_share=0.0, seed=0
    )
    images = np.zeros((256, 16, 24, 3), "float32")
    masks = ops.convert_to_numpy(model._masks(images))
    assert masks.shape == (256, 16, 24, 1)
    assert set(np.unique(masks)) == {0.0, 1.0}
    shares = masks.mean(axis=(1, 2, 3))
    # The mean of a product of two sides, each uniform.
    assert abs(shares.mean() - 0.25) < 0.05
    rows = masks.max(axis=(2, 3))
    # Each is one interval: it begins at most once.
    assert (np.diff(rows, axis=1, prepend=0) > 0).sum(axis=1).max() == 1


def test_a_share_of_captions_is_the_empty_prompt(parts, unet_inputs):
    empty = np.array([9, 9, 9])
    model = ImageDiffusion(
        *parts,
        schedule=NoiseSchedule(),
        caption_dropout=1.0,
        empty_token_ids=empty,
        seed=0,
    )
    context = unet_inputs(model)["context"]
    expected = ops.convert_to_numpy(parts[2]({"token_ids": empty[None]}))
    np.testing.assert_allclose(
        context, np.repeat(expected, 4, axis=0), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trainable": "temporal"}, "Images pass no temporal layers.*'temporal'"),
        ({"trainable": "all"}, "Images pass no temporal layers.*'all'"),
        ({"full_mask_share": 1.5}, "full_mask_share must be from 0 to 1.*1.5"),
        ({"caption_dropout": 0.5}, "caption_dropout=0.5 needs empty_token_ids"),
        ({"caption_dropout": -1}, "caption_dropout must be from 0 to 1.*-1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(parts, arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageDiffusion(*parts, schedule=NoiseSchedule(), **arguments)


def test_a_unet_that_takes_no_mask_is_refused(parts):
    keras.utils.set_random_seed(0)
    unet = UNetPseudo3D(
        in_channels=4,
        block_channels=(8,),
        layers_per_block=1,
        attention_levels=(False,),
        groups=4,
        num_heads=2,
    )
    with pytest.raises(ValueError, match="must take 9 channels.*in_channels=4"):
        ImageDiffusion(unet, *parts[1:], schedule=NoiseSchedule())
