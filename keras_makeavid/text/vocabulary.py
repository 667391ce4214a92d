"""Vocabulary files of CLIP's byte-pair tokenizer: reading, checking, writing."""

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import AddedToken as TheirToken
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, trainers
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from keras_makeavid.files import StrPath, read_text, written_aside
from keras_makeavid.json_files import read_object, write_json
from keras_makeavid.validation import refusal, validate

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MERGES_HEADER = "#version: 0.2"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"

OPENAI_MERGES = 49152 - 256 - 2

# How CLIP splits text.
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|"
_WORDS += r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# What tells it from other rules.
_PROBE = " It's  2\u00bd CAFE\u0301S\n_in_ 'Foo-bar'!? 10\u732b"


class AddedToken(msgspec.Struct, frozen=True):
    """A token found before text is split into words; in lower case if `normalized`."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Ids of tokens, the `added` ones too, and merge rules, checked when made."""

    tokens: dict[str, int]
    merges: list[str]
    added: tuple[AddedToken, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, dict):
            raise refusal("Tokens must be a dict of token to id", self.tokens)
        for token, index in self.tokens.items():
            if not isinstance(token, str) or type(index) is not int:
                expected = "Tokens must be text with integer ids. Received"
                raise ValueError(f"{expected}: {token!r}: {index!r}")
        # JSON can spell half a surrogate pair, which is no text.
        "".join(self.tokens).encode("utf-8")
        if set(self.tokens.values()) != set(range(len(self.tokens))):
            expected = f"Tokens must have each id from 0 to {len(self.tokens) - 1} once"
            raise ValueError(f"{expected}. Received: ids with gaps or repeats")
        for token in (START_TOKEN, END_TOKEN, *(each.content for each in self.added)):
            if token not in self.tokens:
                raise ValueError(f"The vocabulary has no token {token!r}.")
        for merge in self.merges:
            left, space, right = merge.partition(" ")
            if not {left, right, left + right} <= self.tokens.keys():
                problem = "Merge rules must be 'left right'"
                raise refusal(f"{problem}, of tokens in the vocabulary", merge)

    def tokenizer(self, pad_token: str = END_TOKEN) -> Tokenizer:
        """Make the tokenizer that finds these tokens in text in lower case."""
        merges = [m.partition(" ")[::2] for m in self.merges]
        tokenizer = Tokenizer(
            models.BPE(
                self.tokens, merges, unk_token=END_TOKEN, end_of_word_suffix="</w>"
            )
        )
        spaces = normalizers.Replace(Regex(r"\s+"), " ")
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), spaces, normalizers.Lowercase()]
        )
        words = Regex(_WORDS)
        tokenizer.pre_tokenizer = Sequence(
            [Split(words, "removed", invert=True), ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([START_TOKEN, END_TOKEN, pad_token])
        tokenizer.add_tokens(
            [TheirToken(**msgspec.structs.asdict(token)) for token in self.added]
        )
        return tokenizer

    @functools.cached_property
    def vectors(self) -> dict[int, list[int]]:
        """The ids of added tokens `x`, `x_1`, `x_2` ..., which are vectors of one."""
        found = {}
        names = {token.content for token in self.added}
        for name in names:
            rest = itertools.takewhile(
                names.__contains__, (f"{name}_{i}" for i in itertools.count(1))
            )
            ids = [self.tokens[part] for part in (name, *rest)]
            if len(ids) > 1:
                found[ids[0]] = ids
        return found

    def save(self, folder: StrPath, config: Mapping[str, Any] | None = None) -> None:
        """Write `vocab.json`, `merges.txt`, and config and added tokens, if any."""
        texts = {
            VOCABULARY_FILE: json.dumps(self.tokens, ensure_ascii=False),
            MERGES_FILE: "\n".join([MERGES_HEADER, *self.merges, ""]),
        }
        for name, text in texts.items():
            with written_aside(Path(folder, name)) as aside:
                # No newline translation: the file is the same on every system.
                aside.write_text(text, encoding="utf-8", newline="")
        config = dict(config or {})
        if self.added:
            config["added_tokens_decoder"] = {
                str(self.tokens[token.content]): msgspec.to_builtins(token)
                for token in self.added
            }
        if config:
            write_json(Path(folder, CONFIG_FILE), config)


def read_folder(folder: StrPath) -> Vocabulary:
    """Read the vocabulary of a tokenizer's folder, in each form of transformers."""
    whole, config, legacy = (
        Path(folder, name)
        for name in (TOKENIZER_FILE, CONFIG_FILE, "added_tokens.json")
    )
    files = Path(folder, VOCABULARY_FILE), Path(folder, MERGES_FILE)
    if whole.exists() and not all(file.exists() for file in files):
        vocabulary = read_tokenizer_json(whole)
    else:
        vocabulary = read_vocabulary(*files)
    if legacy.exists():
        ids = read_object(legacy)
        found = [(index, {"content": content}) for content, index in ids.items()]
        vocabulary = _with_added(vocabulary, found, legacy)
    if config.exists():
        decoder = read_object(config).get("added_tokens_decoder", {})
        decoder = validate(decoder, dict, f"{config}: added_tokens_decoder")
        found = [(int(i) if i.isdecimal() else i, t) for i, t in decoder.items()]
        vocabulary = _with_added(vocabulary, found, config)
    return vocabulary


def _with_added(vocabulary, found, path):
    """A vocabulary with added tokens, given as pairs of id and object."""
    tokens = dict(vocabulary.tokens)
    added = {token.content: token for token in vocabulary.added}
    for index, value in found:
        token = validate(value, AddedToken, f"{path}: added token {index!r}")
        if tokens.setdefault(token.content, index) != index:
            raise ValueError(
                f"{path}: the added token {token.content!r} must have the id that it "
                f"has elsewhere, {tokens[token.content]}. Received: {index!r}"
            )
        # The tokenizer knows these two by itself.
        if token.content not in (START_TOKEN, END_TOKEN):
            added[token.content] = token
    try:
        return Vocabulary(tokens, vocabulary.merges, tuple(added.values()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_vocabulary(vocab_path: StrPath, merges_path: StrPath) -> Vocabulary:
    """Read and check the pair `vocab.json` and `merges.txt`; errors name the files."""
    tokens = read_object(vocab_path)
    lines = read_text(merges_path).removesuffix("\n").split("\n")
    merges = lines[1:] if lines[0].startswith("#version") else lines
    try:
        return Vocabulary(tokens, merges)
    except ValueError as error:
        raise ValueError(f"{vocab_path} with {merges_path}: {error}") from error


def read_tokenizer_json(path: StrPath) -> Vocabulary:
    """Read the vocabulary in `tokenizer.json`, whose rules for text must be CLIP's."""
    content = read_object(path)
    try:
        _check_rules(content)
        model = content["model"]
        # Older files hold a rule as one string, newer ones as a pair.
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        found = [(token["id"], token) for token in content.get("added_tokens", ())]
        tokens = dict(model["vocab"])
        # Start and end token may stand among the added ones alone.
        for index, token in found:
            tokens.setdefault(token["content"], index)
        vocabulary = Vocabulary(tokens, merges)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    # The library raises nothing more special than this.
    except Exception as error:
        raise ValueError(f"{path}: not a BPE tokenizer file: {error!r}") from error
    return _with_added(vocabulary, found, path)


def _check_rules(content: dict[str, Any]) -> None:
    """Refuse rules for text that are not those of CLIP's tokenizer."""
    pair = Tokenizer.from_str(json.dumps(content)), _vocabulary_of([]).tokenizer()
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        told, known = (getattr(tokenizer.model, key) for tokenizer in pair)
        if (told or None) != (known or None):
            raise refusal(f"{key} must be CLIP's, {known!r}", told)
    texts = [each.normalizer.normalize_str(_PROBE) for each in pair]
    told, known = (
        each.pre_tokenizer.pre_tokenize_str(text)
        for each, text in zip(pair, texts, strict=True)
    )
    if told != known:
        problem = "the normalizer and the pre_tokenizer must be CLIP's, which make"
        raise refusal(f"{problem} {known} of {_PROBE!r}", told)


def openai_clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's own 49,408 tokens with their ids, and its 48,894 merge rules.

    They are for running without the folder of a model, and are plain text in a compiled
    module of the package `instant-clip-tokenizer`.

    Raises:
        ImportError: If `instant-clip-tokenizer` is not installed.
        ValueError: If the installed version does not hold the list as expected.

    Example:
    ```python
    tokens, merges = openai_clip_vocabulary()
    tokens["cat</w>"]  # 2368
    ```
    """
    try:
        from instant_clip_tokenizer import instant_clip_tokenizer as module
    except ImportError as error:
        raise ImportError(
            "CLIP's vocabulary is read from the package instant-clip-tokenizer: "
            "`pip install instant-clip-tokenizer`, or use a model folder's own "
            "vocab.json and merges.txt."
        ) from error
    with open(module.__file__, "rb") as file:
        _, found, rest = file.read().partition(f"{MERGES_HEADER}\n".encode())
    if not found:
        raise ValueError(f"{module.__file__} holds no list of CLIP's merges.")
    lines = rest.split(b"\n", OPENAI_MERGES)[:OPENAI_MERGES]
    merges = [line.decode("utf-8") for line in lines]
    vocabulary = _vocabulary_of(merges)
    return vocabulary.tokens, vocabulary.merges


def learn_vocabulary(texts: Iterable[str], max_merges: int = 1024) -> Vocabulary:
    """Learn a small vocabulary of CLIP's form from texts, whose case does not matter.

    Words become tokens of their own, as far as `max_merges` rules allow; any other text
    falls into pieces of them, down to bytes.

    Example:
    ```python
    learn_vocabulary(["a cat", "a dog"]).merges  # "c a", "d o", "ca t</w>", ...
    ```
    """
    bytes_alone = _vocabulary_of([])
    tokenizer = bytes_alone.tokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=len(bytes_alone.tokens) + max_merges,
        special_tokens=[START_TOKEN, END_TOKEN],
        initial_alphabet=ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return _vocabulary_of([" ".join(merge) for merge in merges[:max_merges]])


def _vocabulary_of(merges: list[str]) -> Vocabulary:
    """Tokens in CLIP's order: bytes, bytes that end a word, merges, start and end."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += [START_TOKEN, END_TOKEN]
    return Vocabulary({token: i for i, token in enumerate(tokens)}, merges)
