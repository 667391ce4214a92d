import numpy as np
import pytest
from keras import ops

from keras_makeavid.data import open_dataset
from keras_makeavid.moving_shapes import MotionClips, encode_motions, vae_psnr


@pytest.fixture
def encode(task, tmp_path):
    def encode(count, out="dataset", clips=None, **options):
        clips = clips or MotionClips(seed=2, num_frames=3, size=128)
        parts = task.vae, task.text_encoder, task.preprocessor.tokenize
        encoded = encode_motions(clips, count, tmp_path / out, *parts, **options)
        return encoded, open_dataset(tmp_path / out)

    return encode


def test_clips_are_encoded_with_their_captions(encode, task):
    encoded, dataset = encode(2)
    assert encoded == 2
    assert dataset.ids == ["motions-00000000", "motions-00000001"]
    clips = MotionClips(seed=2, num_frames=3, size=128)
    for index in range(2):
        frames, caption = clips.clip(index)
        assert dataset.metadata(index)["caption"] == caption
        latents = task.vae.encode_video(frames) / task.vae.scaling_factor
        np.testing.assert_allclose(
            dataset.latents(index, 0, 3), latents, rtol=0, atol=1e-5
        )
        states = ops.convert_to_numpy(task.encode_prompts([caption])[0])
        np.testing.assert_allclose(dataset.context(index), states, rtol=0, atol=1e-5)


def test_a_run_goes_on_where_another_was(encode):
    encode(2, half=True)
    seen = []
    encoded, dataset = encode(3, half=True, on_clip=seen.append)
    assert encoded == 1
    assert seen == dataset.ids
    _, whole = encode(3, "whole", half=True)
    for index in range(3):
        np.testing.assert_array_equal(
            dataset.latents(index, 0, 3), whole.latents(index, 0, 3)
        )


def test_other_clips_or_weights_are_encoded_anew(encode, task):
    encode(1)
    encoded, dataset = encode(1, clips=MotionClips(seed=3, num_frames=3, size=128))
    assert encoded == 1
    caption = MotionClips(seed=3).caption(0)
    assert dataset.metadata(0)["caption"] == caption


def test_counts_that_make_no_sense_are_refused(encode):
    with pytest.raises(ValueError, match="count must be at least 1. Received: 0"):
        encode(0)


def test_another_wording_is_encoded_anew(encode):
    class Reworded(MotionClips):
        def _drawn(self, index):
            scene, text, moment = super()._drawn(index)
            return scene, f"{text} now", moment

    encode(1)
    encoded, dataset = encode(1, clips=Reworded(seed=2, num_frames=3, size=128))
    assert encoded == 1
    assert dataset.metadata(0)["caption"].endswith(" now")


class Task:
    """Its VAE keeps all but an error: of 1 level of 255, and of 5 in every third."""

    height, width = 32, 64

    def __init__(self):
        self.vae, self.encoded = self, []

    def encode_video(self, frames, chunk_size):
        self.encoded.append(frames)
        return frames / 127.5 - 1

    def decode_video(self, latents, chunk_size):
        frames = np.rint((latents + 1) * 127.5)
        levels = np.ones((len(frames), 1, 1, 1))
        levels[::3] = 5
        return np.where(frames < 128, frames + levels, frames - levels)


def test_it_is_the_mean_psnr_of_held_out_pictures():
    task = Task()
    expected = np.mean(20 * np.log10(255 / np.array([5, 1, 1])))
    assert vae_psnr(task, 3) == pytest.approx(expected)
    # As large as the shorter side.
    images, _ = MotionClips(split="held_out", size=32).images(range(3))
    np.testing.assert_array_equal(task.encoded, [images])
