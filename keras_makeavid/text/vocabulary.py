"""Vocabulary files of CLIP's byte-pair tokenizer: reading, checking, writing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_makeavid.files import StrPath, read_text, written_aside
from keras_makeavid.json_files import read_json

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"

VOCABULARY_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MERGES_HEADER = "#version: 0.2"

# OpenAI's own vocabulary takes 0.9 MB; a file is read into memory whole.
MAX_FILE_BYTES = 64 * 2**20
OPENAI_MERGES = 49152 - 256 - 2


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens and merge rules of a byte-pair tokenizer, checked when made.

    Args:
        tokens: Each token's id; the ids are 0 to `len(tokens) - 1`, each once.
        merges: Merge rules `"left right"`, the first one applied first.
    """

    tokens: dict[str, int]
    merges: list[str]

    def __post_init__(self) -> None:
        """Refuse tokens and merges that the tokenizer could not work with."""
        _check_tokens(self.tokens)
        _check_merges(self.merges, self.tokens)

    def save(self, folder: StrPath) -> None:
        """Write `vocab.json` and `merges.txt` in the hub's format into a folder."""
        text = json.dumps(self.tokens, ensure_ascii=False)
        _write(Path(folder, VOCABULARY_FILE), text)
        text = "\n".join([MERGES_HEADER, *self.merges, ""])
        _write(Path(folder, MERGES_FILE), text)


def read_vocabulary(vocab_path: str, merges_path: str) -> Vocabulary:
    """Read and check the pair `vocab.json` and `merges.txt`; errors name the files."""
    tokens = read_object(vocab_path)
    lines = read_text(merges_path, MAX_FILE_BYTES).removesuffix("\n").split("\n")
    merges = lines[1:] if lines[0].startswith("#version") else lines
    try:
        return Vocabulary(tokens, merges)
    except ValueError as error:
        raise ValueError(f"{vocab_path} with {merges_path}: {error}") from error


def read_tokenizer_json(path: str) -> Vocabulary:
    """Read the vocabulary in `tokenizer.json`, all that transformers 5 writes.

    Normalisation and splitting rules in it are not read: they are CLIP's, and
    `transformers.CLIPTokenizer` has them.
    """
    try:
        model = read_object(path)["model"]
        # Older files hold a rule as one string, newer ones as a pair.
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
        return Vocabulary(model["vocab"], merges)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a BPE tokenizer file: {error!r}") from error


def openai_clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    """CLIP's own vocabulary, taken from the package `instant-clip-tokenizer`.

    Neither KerasHub nor transformers carries a vocabulary, and a model folder
    brings its own. This one is for running without such a folder. The package
    keeps OpenAI's list of merges as plain text inside its compiled module.

    Returns:
        `(tokens, merges)`: 49,408 tokens with their ids, 48,894 merge rules.

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
    """Learn a small vocabulary of CLIP's form from texts.

    Its words become tokens of their own, as far as `max_merges` allow; any other text
    falls into pieces of them, down to bytes.

    Args:
        texts: Captions; case does not matter.
        max_merges: Merge rules at most.

    Returns:
        The vocabulary: as in CLIP's own all bytes first, then what merges make, then
        start and end token.

    Example:
    ```python
    learn_vocabulary(["a cat", "a dog"]).merges  # "c a", "d o", "ca t</w>", ...
    ```
    """
    from transformers import CLIPTokenizer

    bytes_alone = _vocabulary_of([])
    tokenizer = CLIPTokenizer(vocab=bytes_alone.tokens, merges=[])
    learnt = tokenizer.train_new_from_iterator(
        texts, len(bytes_alone.tokens) + max_merges, show_progress=False
    )
    merges = json.loads(learnt.backend_tokenizer.to_str())["model"]["merges"]
    return _vocabulary_of([" ".join(merge) for merge in merges[:max_merges]])


def _vocabulary_of(merges: list[str]) -> Vocabulary:
    """Tokens in CLIP's order: bytes, bytes that end a word, merges, start and end."""
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += [START_TOKEN, END_TOKEN]
    return Vocabulary({token: i for i, token in enumerate(tokens)}, merges)


def read_object(path: StrPath) -> dict[str, Any]:
    """Read a JSON object of no more than 64 MB; errors name the file."""
    content = read_json(Path(path), MAX_FILE_BYTES)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} must be a JSON object. Received: a {type(content).__name__}"
        )
    return content


def _check_tokens(tokens: dict[str, int]) -> None:
    if not isinstance(tokens, dict):
        raise ValueError(
            f"Tokens must be a dict of token to id. Received: a {type(tokens).__name__}"
        )
    for token, index in tokens.items():
        if not isinstance(token, str) or type(index) is not int:
            raise ValueError(
                f"Tokens must be text with integer ids. Received: {token!r}: {index!r}"
            )
    # JSON can spell half a surrogate pair, which is no text.
    "".join(tokens).encode("utf-8")
    if set(tokens.values()) != set(range(len(tokens))):
        raise ValueError(
            f"Tokens must have each id from 0 to {len(tokens) - 1} once. "
            "Received: ids with gaps or repeats"
        )
    for token in (START_TOKEN, END_TOKEN):
        if token not in tokens:
            raise ValueError(f"The vocabulary has no token {token!r}.")


def _check_merges(merges: list[str], tokens: dict[str, int]) -> None:
    for merge in merges:
        left, space, right = merge.partition(" ")
        if not {left, right, left + right} <= tokens.keys():
            raise ValueError(
                "Merge rules must be 'left right', of tokens in the vocabulary. "
                f"Received: {merge!r}"
            )


def _byte_letters() -> list[str]:
    """CLIP's visible stand-ins for the 256 bytes, in the order of their ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    substitutes = range(0x100, 0x100 + 256 - len(printable))
    return [chr(code) for code in (*printable, *substitutes)]


def _write(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        # No newline translation: the file is the same on every system.
        aside.write_text(text, encoding="utf-8", newline="")
