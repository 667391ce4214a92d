"""Repositories of the Hugging Face hub."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from weights_tools.kinds import MODELS
from weights_tools.layouts.kerascv import KERASCV_CLASSES
from weights_tools.sources.pipeline import FORMATS

HUB_PREFIX = "hf://"

_NAME = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

# What the configurations in these repositories do not tell (spec section 1).
_KNOWN_ARGUMENTS = {
    "lxj616/make-a-stable-diffusion-video-timelapse": {
        "gelu": "exact",
        "transformer_epsilon": 1e-6,
    },
}

# Models are small folders of configurations beside one large file in several formats
# and precisions, of which one is enough: the first that there is.
_CONFIGURATIONS = ["*.json", "*.txt"]
_VARIANTS = ["*.fp16.*", "*.non_ema.*"]


def download(name: str, variant: str | None = None) -> Path:
    """Fetch a repository through `huggingface_hub`'s cache.

    Offline mode (`HF_HUB_OFFLINE`), cache (`HF_HOME`) and tokens (`HF_TOKEN`) are as
    everywhere else.

    Args:
        name: `hf://owner/name` or `hf://owner/name@revision`.
        variant: `"fp16"` fetches files of this variant where there are any.

    Returns:
        The folder of the snapshot.

    Raises:
        ValueError: if the name is malformed.
        FileNotFoundError: if the hub, or the cache when offline, has no such thing.

    Example:
    ```python
    folder = download("hf://TempoFunk/makeavid-sd-jax")
    ```
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise ValueError(
            f"A hub source is hf://owner/name or hf://owner/name@revision. "
            f"Received: {name!r}"
        )
    repository, revision = match.groups()
    folder = _snapshot(repository, revision, _CONFIGURATIONS)
    parts = [folder / part for part in MODELS if (folder / part).is_dir()]
    wanted = [part.name + "/" for part in parts] or [""]
    # As `find_weights_file` chooses: full precision in any format before a variant.
    for ignored, kind in itertools.product(
        [[]] if variant else [_VARIANTS, []], FORMATS
    ):
        patterns = [f"{part}*.{kind}" for part in wanted]
        _snapshot(repository, revision, _CONFIGURATIONS + patterns, ignored)
        wanted = [part for part in wanted if not any((folder / part).glob(f"*.{kind}"))]
        if not wanted:
            return folder
    if not parts:
        # KerasCV's repository has other weights beside these, of other formats.
        published = [known.published for known in KERASCV_CLASSES]
        _snapshot(repository, revision, [*_CONFIGURATIONS, *published, "*.ckpt"])
    return folder


def known_arguments(name: str) -> dict[str, Any]:
    """What is known of a hub's model and not told by its configuration.

    Args:
        name: the source, of the hub or not.

    Returns:
        Arguments of `UNetPseudo3D`, empty for most sources.
    """
    match = _NAME.fullmatch(name)
    return dict(_KNOWN_ARGUMENTS.get(match[1], {})) if match else {}


def _snapshot(repository, revision, patterns, ignored=()) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=list(ignored),
        )
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        raise FileNotFoundError(f"{HUB_PREFIX}{repository}: {error}") from error
    return Path(folder)
