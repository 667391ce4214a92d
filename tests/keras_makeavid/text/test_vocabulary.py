import json
import os
import sys

import pytest
from transformers import CLIPTokenizer

from keras_makeavid.text import TextToVideoPreprocessor
from keras_makeavid.text.vocabulary import (
    END_TOKEN,
    START_TOKEN,
    Vocabulary,
    learn_vocabulary,
    openai_clip_vocabulary,
    read_tokenizer_json,
    read_vocabulary,
)

TOKENS = {"a": 0, "b</w>": 1, "ab</w>": 2, START_TOKEN: 3, END_TOKEN: 4}
MERGES = ["a b</w>"]


def write(folder, tokens=TOKENS, merges="#version: 0.2\na b</w>\n"):
    vocab_path, merges_path = folder / "vocab.json", folder / "merges.txt"
    text = tokens if isinstance(tokens, str) else json.dumps(tokens)
    vocab_path.write_text(text, encoding="utf-8")
    merges_path.write_text(merges, encoding="utf-8")
    return str(vocab_path), str(merges_path)


def test_openai_vocabulary_has_the_published_size_and_order(clip_vocabulary):
    tokens, merges = clip_vocabulary
    assert len(tokens) == 49408
    assert len(merges) == 48894
    assert [tokens[t] for t in ("!", "!</w>", "in", "the</w>")] == [0, 256, 512, 518]
    assert (tokens[START_TOKEN], tokens[END_TOKEN]) == (49406, 49407)


def test_openai_vocabulary_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "instant_clip_tokenizer", None)
    with pytest.raises(ImportError, match="pip install instant-clip-tokenizer"):
        openai_clip_vocabulary()


def test_saved_files_read_back_equal_and_in_order(tmp_path, clip_vocabulary):
    saved = Vocabulary(*clip_vocabulary)
    saved.save(tmp_path)
    read = read_vocabulary(tmp_path / "vocab.json", tmp_path / "merges.txt")
    assert list(read.tokens.items()) == list(saved.tokens.items())
    assert read.merges == saved.merges
    assert sorted(p.name for p in tmp_path.iterdir()) == ["merges.txt", "vocab.json"]


def test_saving_twice_writes_the_same_bytes(tmp_path, clip_vocabulary):
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        Vocabulary(*clip_vocabulary).save(tmp_path / name)
        contents.append([p.read_bytes() for p in sorted((tmp_path / name).iterdir())])
    assert contents[0] == contents[1]


def test_merges_may_lack_the_version_line(tmp_path):
    assert read_vocabulary(*write(tmp_path, merges="a b</w>")).merges == MERGES


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('["a", "b"]', "must hold a JSON object. Received: .'a', 'b'."),
        ({**TOKENS, "c": 6}, "each id from 0 to 5 once"),
        ({**TOKENS, "c": 4}, "each id from 0 to 5 once"),
        ({**TOKENS, "c": "5"}, "Received: 'c': '5'"),
        ({**TOKENS, "c": True}, "Received: 'c': True"),
        ({**TOKENS, "c": 5.0}, "Received: 'c': 5.0"),
        ({**TOKENS, "\ud800": 5}, "surrogates not allowed"),
        ({"a": 0, "b</w>": 1, "ab</w>": 2, START_TOKEN: 3}, "no token '<.endoftext.>'"),
        ({}, "no token '<.startoftext.>'"),
    ],
)
def test_malformed_tokens_are_refused_by_file_name(tmp_path, tokens, message):
    with pytest.raises(ValueError, match=rf"vocab\.json.*{message}"):
        read_vocabulary(*write(tmp_path, tokens=tokens))


@pytest.mark.parametrize("merge", ["a", "a b</w> a", "a a", "b</w> a", "x b</w>"])
def test_merges_outside_the_vocabulary_are_refused_by_file_name(tmp_path, merge):
    with pytest.raises(ValueError, match=rf"merges\.txt.*Received: '{merge}'"):
        read_vocabulary(*write(tmp_path, merges=f"#version: 0.2\n{merge}\n"))


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path):
    paths = write(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"#version: 0.2\n\xff\xfe")
    with pytest.raises(ValueError, match=r"merges\.txt is not in UTF-8"):
        read_vocabulary(*paths)


def test_files_as_windows_writes_them_are_read(tmp_path):
    paths = write(tmp_path)
    as_written = read_vocabulary(*paths)
    for name in ("vocab.json", "merges.txt"):
        content = (tmp_path / name).read_bytes().replace(b"\n", b"\r\n")
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert read_vocabulary(*paths) == as_written


def test_an_oversized_file_is_refused_before_it_is_parsed(tmp_path):
    paths = write(tmp_path)
    os.truncate(paths[0], 2**26 + 1)
    with pytest.raises(ValueError, match=r"vocab\.json is larger than 67108864 bytes"):
        read_vocabulary(*paths)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"vocab\.json"):
        read_vocabulary(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))


@pytest.fixture(scope="module")
def as_written(tmp_path_factory):
    """What transformers 5 writes as `tokenizer.json`."""
    folder = tmp_path_factory.mktemp("tokenizer")
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    CLIPTokenizer(vocab=TOKENS, merges=merges).save_pretrained(folder)
    return json.loads((folder / "tokenizer.json").read_text())


@pytest.mark.parametrize("merges", [["a b</w>"], [["a", "b</w>"]]])
def test_tokenizer_json_is_read_in_its_older_and_newer_form(
    tmp_path, as_written, merges
):
    path = tmp_path / "tokenizer.json"
    model = {**as_written["model"], "vocab": TOKENS, "merges": merges}
    path.write_text(json.dumps({**as_written, "model": model}))
    assert read_tokenizer_json(str(path)) == Vocabulary(TOKENS, MERGES)


WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
SPLIT = {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed"}
# Files of transformers 4 have fewer keys.
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
OLDER = {"type": "Sequence", "pretokenizers": [{**SPLIT, "invert": True}, BYTES]}


def test_rules_as_older_versions_wrote_them_are_taken(tmp_path, as_written):
    path = tmp_path / "tokenizer.json"
    model = {**as_written["model"]}
    del model["byte_fallback"], model["ignore_merges"], model["type"]
    content = {**as_written, "pre_tokenizer": OLDER, "model": model}
    path.write_text(json.dumps(content))
    assert read_tokenizer_json(path) == Vocabulary(TOKENS, MERGES)


LOWERCASE = {"type": "Lowercase"}
OTHER_RULES = {
    "normalizer": [
        None,
        LOWERCASE,
        {"type": "Sequence", "normalizers": [{"type": "NFKC"}, LOWERCASE]},
        {"type": "BertNormalizer", "lowercase": True},
        [],
        "NFC",
    ],
    "pre_tokenizer": [
        None,
        {"type": "Whitespace"},
        {"type": "Sequence", "pretokenizers": []},
        {**SPLIT, "invert": False},
        BYTES,
        {**BYTES, "add_prefix_space": True},
        {"type": "Metaspace", "replacement": "_"},
    ],
    "end_of_word_suffix": ["", None, "@@"],
    "continuing_subword_prefix": ["##"],
    "dropout": [0.1],
    "type": ["WordPiece", "Unigram"],
}


@pytest.mark.parametrize(
    ("key", "rule"), [(key, rule) for key in OTHER_RULES for rule in OTHER_RULES[key]]
)
def test_rules_that_are_not_those_of_clip_are_refused(tmp_path, as_written, key, rule):
    path = tmp_path / "tokenizer.json"
    content = {**as_written, key: rule}
    if key not in as_written:
        content = {**as_written, "model": {**as_written["model"], key: rule}}
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"tokenizer\.json: (.* must be CLIP's|not a B)"
    ):
        read_tokenizer_json(path)


@pytest.mark.parametrize(
    "content",
    [{}, {"model": []}, {"model": {"vocab": TOKENS}}, {"model": {"merges": [1]}}],
)
def test_a_malformed_tokenizer_json_is_refused_by_name(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"tokenizer\.json: not a BPE tokenizer"):
        read_tokenizer_json(str(path))


def test_a_learnt_vocabulary_has_the_words_of_its_texts_as_tokens():
    texts = ["A red star moving left", "a red ball, spinning"] * 3
    vocabulary = learn_vocabulary(texts, max_merges=100)
    words = ("a", "red", "star", "moving", "left", "ball", ",", "spinning")
    preprocessor = TextToVideoPreprocessor(vocabulary.tokens, vocabulary.merges)
    for word in words:
        assert f"{word}</w>" in vocabulary.tokens
        assert preprocessor.tokenize(word)[0, 2] == preprocessor.vocabulary[END_TOKEN]
    names = {index: token for token, index in vocabulary.tokens.items()}
    ids = preprocessor.tokenize("a RED dragon über")[0]
    text = "".join(names[i] for i in ids[1:] if i != vocabulary.tokens[END_TOKEN])
    # Bytes beyond ASCII have stand-ins of their own.
    assert text == "a</w>red</w>dragon</w>Ã¼ber</w>"


def test_a_learnt_vocabulary_is_bounded_and_always_the_same():
    texts = [f"word{i} otherword{i}" for i in range(50)]
    vocabulary = learn_vocabulary(texts, max_merges=7)
    assert len(vocabulary.merges) == 7
    assert len(vocabulary.tokens) == 512 + 7 + 2
    assert learn_vocabulary(texts, max_merges=7) == vocabulary
