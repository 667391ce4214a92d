from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from keras_makeavid.validation import (
    Table,
    ValidationError,
    expectation,
    validate,
)

Size = Annotated[int, Meta(ge=1, le=64)]


class Block(Table, frozen=True):
    name: str
    channels: Annotated[tuple[Size, ...], Meta(max_length=4)] = ()
    scale: float = 1.0
    bias: bool = True


class Config(Table, frozen=True):
    size: Size
    kind: Literal["epsilon", "v"] = "epsilon"
    blocks: tuple[Block, ...] = ()
    last: Block | None = None
    groups: Size | None = None


class Foreign(msgspec.Struct, frozen=True):
    size: Size


def problems(value, kind=Config):
    with pytest.raises(ValidationError) as caught:
        validate(value, kind, "config.json")
    assert str(caught.value).startswith("config.json has ")
    return caught.value.problems


def test_a_right_value_becomes_an_instance_with_defaults():
    value = {"size": 3, "blocks": [{"name": "a", "channels": [1, 2], "scale": 2}]}
    config = validate(value, Config, "config.json")
    assert config == Config(3, blocks=(Block("a", (1, 2), scale=2.0),))
    assert type(config.blocks[0].scale) is float


def test_null_stands_for_what_may_be_left_out_and_for_nothing_else():
    value = {"size": 3, "last": None, "groups": None}
    assert validate(value, Config, "config.json") == Config(3)
    (problem,) = problems({"size": None})
    assert problem == (
        "size must be a whole number of at least 1 and at most 64. Received: None"
    )


def test_every_problem_is_told_with_its_path_what_is_allowed_and_what_is_there():
    value = {
        "size": 65,
        "kind": "x",
        "blocks": [{"name": "a", "scale": float("nan")}, {"channels": [0]}, 3],
        "last": {"name": "b", "bias": 1},
        "groups": 2.0,
    }
    assert problems(value) == [
        "size must be a whole number of at least 1 and at most 64. Received: 65",
        "kind must be one of 'epsilon', 'v'. Received: 'x'",
        "blocks.a.scale must be a number. Received: nan",
        "blocks.2.name is missing: a string",
        "blocks.2.channels must be a list of 0 to 4 entries, each a whole number of at "
        "least 1 and at most 64. Received: [0]",
        "blocks.3 must be a table. Received: 3",
        "last.bias must be true or false. Received: 1",
        "groups must be a whole number of at least 1 and at most 64. Received: 2.0",
    ]


def test_a_key_that_is_unknown_is_told_with_the_nearest_or_with_all():
    assert problems({"size": 1, "gruops": 1, "zzz": 1}) == [
        "gruops is unknown: did you mean groups?",
        "zzz is unknown: known: size, kind, blocks, last, groups",
    ]


def test_a_foreign_struct_passes_over_keys_it_does_not_know():
    assert validate({"size": 1, "_version": "0.1"}, Foreign, "config.json").size == 1


@pytest.mark.parametrize("value", [None, 3, "text", [], True])
def test_what_is_no_table_is_refused(value):
    (problem,) = problems(value)
    assert problem == f"It must be a table. Received: {value!r}"


def test_what_was_received_is_told_in_few_words():
    nested = []
    for _ in range(900):
        nested = [nested]
    for value in ("x" * 10_000, [1] * 10_000, nested, 10**2_000):
        (problem,) = problems({"size": value})
        assert len(problem) < 200


def test_a_plain_type_is_validated_too():
    assert validate(["a"], tuple[str, ...], "ids.json") == ("a",)
    (problem,) = problems(["a", 3], tuple[str, ...])
    assert problem == "It must be a list, each a string. Received: ['a', 3]"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Annotated[int, Meta(ge=1)], "a whole number of at least 1"),
        (Annotated[float, Meta(gt=0, lt=0.5)], "a number, above 0 and below 0.5"),
        (int | str, "a whole number or a string"),
        (Annotated[str, Meta(description="a colour")] | None, "a colour"),
        (tuple[int, str], "a list of a whole number and a string"),
    ],
)
def test_what_a_type_allows_is_said_in_words(kind, said):
    assert expectation(kind) == said


def test_a_check_of_its_own_refuses_with_the_description():
    def even(number):
        if number % 2:
            raise ValueError(number)

    kind = Annotated[int, Meta(description="an even number", extra={"check": even})]
    assert validate(4, kind, "a file") == 4
    assert problems(3, kind) == ["It must be an even number. Received: 3"]
