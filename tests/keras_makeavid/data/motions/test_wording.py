import numpy as np

from keras_makeavid.data.motions import Description, caption, draw_scene

STAR = Description("red", "star", "moving left")


def test_the_canonical_caption_is_plain():
    assert caption(STAR) == "a red star moving left"
    brown = Description("white", "dancer", "waving", "brown")
    assert caption(brown) == "a white dancer waving on a brown background"


def test_a_scene_has_the_caption_of_its_description():
    scene = draw_scene(np.random.default_rng(0))
    description = Description(*scene.triple, scene.background)
    assert caption(scene) == caption(description)


def test_wording_varies_and_the_canonical_one_comes_often():
    rng = np.random.default_rng(0)
    drawn = [caption(STAR, rng) for _ in range(1000)]
    assert len(set(drawn)) > 200
    assert 250 < drawn.count("a red star moving left") < 400
    assert any(text.startswith("the ") for text in drawn)
    assert any(text.endswith("red star") for text in drawn)


def test_black_backgrounds_are_named_at_times():
    rng = np.random.default_rng(0)
    named = sum("black background" in caption(STAR, rng) for _ in range(1000))
    assert 180 < named < 320
