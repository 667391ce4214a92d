from collections import Counter

import pytest

from keras_makeavid.data.motions import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    held_out,
    parse_caption,
)
from keras_makeavid.evaluation import default_prompts, read_prompts


def test_half_of_the_prompts_are_of_held_out_triples():
    descriptions = [parse_caption(prompt) for prompt in default_prompts(24)]
    held = [held_out(description.triple) for description in descriptions]
    assert held == [False] * 24 + [True] * 24
    assert len({description.triple for description in descriptions}) == 48


@pytest.mark.parametrize("half", [slice(24), slice(24, None)], ids=["seen", "held out"])
def test_everything_comes_about_as_often_as_the_rest_of_its_kind(half):
    descriptions = [parse_caption(prompt) for prompt in default_prompts(24)[half]]
    for kind, names, slack in (
        ("colour", COLOURS, 2),
        ("shape", SHAPES, 3),
        ("motion", MOTIONS, 3),
        ("background", BACKGROUNDS, 1),
    ):
        counts = Counter(getattr(description, kind) for description in descriptions)
        assert set(counts) == set(names)
        assert max(counts.values()) - min(counts.values()) <= slack


def test_wordings_are_many_and_mean_the_same():
    canonical, varied = default_prompts(24), default_prompts(24, wordings=True)
    assert [*map(parse_caption, varied)] == [*map(parse_caption, canonical)]
    assert sum(map(str.__ne__, varied, canonical)) > 20
    assert default_prompts(24, wordings=True) == varied


@pytest.mark.parametrize("count", [0, 41])
def test_more_prompts_than_triples_are_refused(count):
    with pytest.raises(
        ValueError, match=f"count must be from 1 to 40. Received: {count}"
    ):
        default_prompts(count)


def test_prompts_are_read_a_line_each(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeffa red star moving left\n\n  a violet ball rises \n", "utf-8")
    assert read_prompts(path) == ["a red star moving left", "a violet ball rises"]


@pytest.mark.parametrize(
    "text, received",
    [("a red star growing\na cat\n", "Received: 'a cat'"), ("\n", "no prompt")],
)
def test_prompts_that_cannot_be_measured_are_refused(text, received, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"must hold prompts of a red.*{received}"):
        read_prompts(path)
