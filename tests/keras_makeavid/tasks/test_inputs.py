import numpy as np
import pytest

from keras_makeavid.tasks.inputs import as_hint_images, as_masks, as_prompts, as_seeds
from keras_makeavid.video import cover_crop


def picture(height=40, width=60, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype="uint8")


def halves(height, width, left, right):
    return np.repeat([[left, right]], height, 0).repeat(width // 2, 1)


@pytest.mark.parametrize(
    "prompts, negatives, expected",
    [
        ("a cat", None, ([{0: "a cat"}], [""])),
        (["a", "b"], None, ([{0: "a"}, {0: "b"}], ["", ""])),
        (("a", "b"), "blurry", ([{0: "a"}, {0: "b"}], ["blurry", "blurry"])),
        (["a", "b"], ["c", "d"], ([{0: "a"}, {0: "b"}], ["c", "d"])),
        ("a", ["c"], ([{0: "a"}], ["c"])),
        ({0: "a", 4: "b"}, "c", ([{0: "a", 4: "b"}], ["c"])),
        (["a", {2: "b"}], "c", ([{0: "a"}, {2: "b"}], ["c", "c"])),
    ],
)
def test_every_prompt_gets_a_negative_prompt(prompts, negatives, expected):
    assert as_prompts(prompts, negatives) == expected


@pytest.mark.parametrize(
    "prompts, negatives, message",
    [
        ([], None, r"prompts must be .* non-empty list of strings. Received: \[\]"),
        (5, None, "prompts must be a string or .* Received: 5"),
        ("a", [None], r"negative_prompts must be .* Received: \[None\]"),
        (["a", "b"], ["c"], "one for each of the 2 prompts. Received: 1"),
    ],
)
def test_prompts_that_are_no_strings_or_too_few_are_refused(
    prompts, negatives, message
):
    with pytest.raises(ValueError, match=message):
        as_prompts(prompts, negatives)


def test_a_number_seeds_each_sample_with_the_next_one():
    assert as_seeds(7, 3) == [7, 8, 9]
    assert as_seeds(np.int64(7), 1) == [7]


def test_a_list_of_seeds_has_one_for_each_sample():
    assert as_seeds([3, 1], 2) == [3, 1]
    assert as_seeds(np.array([3, 1]), 2) == [3, 1]


def test_seeds_that_are_not_given_differ_every_time():
    assert len({*as_seeds(None, 2), *as_seeds(None, 2)}) == 4


@pytest.mark.parametrize(
    "seed", [-1, 1.5, "7", np.array(7.0), [1], [1, 2.5], [1, -2], 2**63, "ab"]
)
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="each of the 2 prompts. Received: ") as error:
        as_seeds(seed, 2)
    assert repr(seed) in str(error.value)


def test_hint_images_are_floats_from_minus_one_to_one():
    image = picture(32, 32)
    hints = as_hint_images(image, batch=1, height=32, width=32)
    assert hints.dtype == "float32"
    np.testing.assert_allclose(hints[0], image / 127.5 - 1, atol=1e-6)
    assert hints.min() == -1
    assert hints.max() == 1


def test_one_hint_image_serves_all_samples():
    hints = as_hint_images(picture(), batch=3, height=32, width=32)
    assert hints.shape == (3, 32, 32, 3)
    assert (hints == hints[:1]).all()


def test_hint_images_of_other_sizes_cover_and_are_cropped_to_the_centre():
    wide, tall = picture(40, 90), picture(90, 40, seed=1)
    hints = as_hint_images([wide, tall], batch=2, height=32, width=64)
    for hint, image in zip(hints, (wide, tall), strict=True):
        expected = cover_crop(image, 32, 64) / 127.5 - 1
        np.testing.assert_allclose(hint, expected, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        picture().astype("float32"),
        picture()[..., :1],
        picture()[:, :, 0],
        [picture()] * 3,
        picture()[:0],
        "photo.jpg",
        [picture(), picture().astype("float32")],
        [],
    ],
    ids=["float", "gray", "flat", "three", "empty", "path", "mixed", "none"],
)
def test_what_is_no_uint8_picture_for_each_sample_is_refused(images):
    with pytest.raises(ValueError, match="hint_image must be uint8 .* Received: "):
        as_hint_images(images, batch=2, height=32, width=32)


@pytest.mark.parametrize(
    "mask",
    [
        halves(8, 8, False, True),
        halves(8, 8, 0, 255).astype("uint8"),
        halves(8, 8, 127, 128).astype("uint8"),
        halves(8, 8, 0.0, 1.0),
        halves(8, 8, 0.49, 0.5).astype("float16"),
        halves(8, 8, False, True)[..., None],
        halves(8, 8, False, True)[None],
        halves(8, 8, False, True)[None, ..., None],
        [halves(8, 8, False, True)],
        [halves(8, 8, False, True)[..., None]],
    ],
    ids=[
        "bool",
        "uint8",
        "grays",
        "float",
        "half",
        "channel",
        "batch",
        "batch, channel",
        "list",
        "list, channel",
    ],
)
def test_masks_of_every_kind_become_zeros_and_ones(mask):
    masks = as_masks(mask, batch=1, height=8, width=8)
    assert masks.dtype == "float32"
    np.testing.assert_array_equal(masks[0, ..., 0], halves(8, 8, 0.0, 1.0))


def test_masks_of_other_sizes_cover_and_are_cropped_without_new_values():
    masks = as_masks(halves(40, 90, False, True), batch=2, height=32, width=64)
    assert masks.shape == (2, 32, 64, 1)
    np.testing.assert_array_equal(masks[1, ..., 0], halves(32, 64, 0.0, 1.0))


def test_a_mask_keeps_to_its_picture():
    image = np.zeros((50, 70, 3), "uint8")
    image[10:30, 20:50] = 255
    hint = as_hint_images(image, batch=1, height=64, width=32)
    mask = as_masks(image[..., 0], batch=1, height=64, width=32)
    agreeing = (hint[..., :1] >= 0) == (mask == 1)
    # The picture's edges are smoothed, by half a pixel to either side.
    assert agreeing.mean() > 0.95


def test_masks_of_different_sizes_may_be_given_for_different_samples():
    masks = as_masks([np.ones((4, 4)), np.zeros((8, 6))], batch=2, height=8, width=8)
    np.testing.assert_array_equal(masks.mean(axis=(1, 2, 3)), [1, 0])


@pytest.mark.parametrize(
    "mask, message",
    [
        (halves(8, 8, 0, 1), "must be bool, uint8 or float. Received: int64"),
        (halves(8, 8, 0.0, 1.5), r"must lie in \[0, 1\]. Received .* 0.0 to 1.5"),
        (halves(8, 8, 0.0, np.nan), r"must lie in \[0, 1\]"),
        (np.ones((3, 8, 8)), r"each of the 2 prompts. Received: 3 of float64 \(8, 8\)"),
        (np.ones(8), r"must be \(H, W\)"),
        (np.ones((0, 8), bool), r"must be \(H, W\)"),
        ("mask.png", r"must be \(H, W\)"),
    ],
    ids=["int", "above", "nan", "three", "flat", "empty", "path"],
)
def test_what_is_no_mask_for_each_sample_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        as_masks(mask, batch=2, height=8, width=8)
