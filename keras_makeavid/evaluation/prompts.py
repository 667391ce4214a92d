"""Which prompts a model is evaluated on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from keras_makeavid.data.motions import (
    BACKGROUNDS,
    KNOWN_WORLD,
    Description,
    caption,
    parse_caption,
    triples_of,
)
from keras_makeavid.files import StrPath, existing_file


def default_prompts(count: int = 24, wordings: bool = False) -> list[str]:
    """Prompts of triples that training shows, then of triples held out of it.

    Args:
        count: prompts of each kind.
        wordings: whether to draw one of many wordings for each, always the same ones,
            in place of the canonical.

    Returns:
        `2 * count` captions, in which every colour, shape, motion and background
        comes about as often as any other of its kind; no triple comes twice.

    Raises:
        ValueError: if there are fewer triples than that.

    Example:
    ```python
    len(default_prompts(30))  # 60
    ```
    """
    most = len(triples_of("held_out"))
    if not 1 <= count <= most:
        raise ValueError(f"count must be from 1 to {most}. Received: {count}")
    rng = np.random.default_rng(0) if wordings else None
    return [
        caption(Description(*triple, BACKGROUNDS[number % len(BACKGROUNDS)]), rng)
        for split in ("train", "held_out")
        for number, triple in enumerate(_balanced(triples_of(split), count))
    ]


def read_prompts(path: StrPath) -> list[str]:
    """Read prompts from a file.

    Args:
        path: UTF-8 text, a prompt a line; empty lines are left out.

    Returns:
        A list of them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no prompt, or one whose video cannot be measured.

    Example:
    ```python
    Path("prompts.txt").write_text("a red star moving left")
    read_prompts("prompts.txt")  # ["a red star moving left"]
    ```
    """
    lines = existing_file(path).read_text(encoding="utf-8-sig").splitlines()
    prompts = [line.strip() for line in lines if line.strip()]
    outside = [prompt for prompt in prompts if parse_caption(prompt) is None]
    if outside or not prompts:
        raise ValueError(
            f"{Path(path)} must hold prompts of {KNOWN_WORLD}. "
            f"Received: {', '.join(map(repr, outside[:5])) or 'no prompt'}"
        )
    return prompts


def _balanced(triples, count):
    """Triples chosen one by one, of what was chosen least until then."""
    chosen, uses = [], Counter()
    for _ in range(count):
        rest = [triple for triple in triples if triple not in chosen]
        chosen.append(min(rest, key=lambda triple: sum(uses[name] for name in triple)))
        uses.update(chosen[-1])
    return chosen
