import numpy as np
import pytest

from keras_makeavid.moving_shapes import Description, note_on
from keras_makeavid.moving_shapes.captions import KNOWN_WORLD, caption, parse_caption
from keras_makeavid.moving_shapes.world import BACKGROUNDS, all_triples, draw_scene

STAR = Description("red", "star", "moving left")


def test_every_wording_of_everything_is_read_back():
    rng = np.random.default_rng(0)
    for triple in all_triples():
        for background in BACKGROUNDS:
            description = Description(*triple, background)
            assert parse_caption(caption(description)) == description
            for _ in range(5):
                text = caption(description, rng)
                assert parse_caption(text) == description, text
                assert text == text.strip(" ,")
                assert "  " not in text
                assert " ," not in text


@pytest.mark.parametrize(
    "text",
    [
        "A Red Star, moving LEFT!",
        "red star moving left on black",
        "there is a crimson star which moves to the left on a black background",
    ],
)
def test_what_a_person_would_type_is_read_too(text):
    assert parse_caption(text) == STAR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a star moving left",
        "a red moving left",
        "a red star",
        "a red dragon moving left",
        "a red star moving left in the rain",
        "a red circle spinning",
        "a red star waving",
        "a red or blue star moving left",
        "a red star and a red square moving left",
        "a red star moving left and growing",
        "a grey star moving left",
        "a white star moving left on a white background",
        "a red star moving left on a grey or brown background",
        "ein roter Stern \U0001f31f",
    ],
)
def test_what_is_missing_double_or_foreign_is_not_read(text):
    assert parse_caption(text) is None


def test_a_user_is_told_what_is_known_only_when_it_helps():
    assert note_on("a red star moving left") is None
    note = note_on("dancing in the rain")
    assert note.startswith("'dancing in the rain' lies outside")
    assert KNOWN_WORLD in note
    for word in ("purple", "triangle", "bouncing", "dancer", "swaying", "brown"):
        assert word in KNOWN_WORLD


WORDING_STAR = Description("red", "star", "moving left")


def test_the_canonical_caption_is_plain():
    assert caption(WORDING_STAR) == "a red star moving left"
    brown = Description("white", "dancer", "waving", "brown")
    assert caption(brown) == "a white dancer waving on a brown background"


def test_a_scene_has_the_caption_of_its_description():
    scene = draw_scene(np.random.default_rng(0))
    description = Description(*scene.triple, scene.background)
    assert caption(scene) == caption(description)


def test_wording_varies_and_the_canonical_one_comes_often():
    rng = np.random.default_rng(0)
    drawn = [caption(WORDING_STAR, rng) for _ in range(1000)]
    assert len(set(drawn)) > 200
    assert 250 < drawn.count("a red star moving left") < 400
    assert any(text.startswith("the ") for text in drawn)
    assert any(text.endswith("red star") for text in drawn)


def test_black_backgrounds_are_named_at_times():
    rng = np.random.default_rng(0)
    named = sum("black background" in caption(WORDING_STAR, rng) for _ in range(1000))
    assert 180 < named < 320
