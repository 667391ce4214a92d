"""Presets on Hugging Face's hub: a whole preset, its model card, and the upload."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCardData, errors

from keras_makeavid.files import StrPath, folder_written_aside, read_text
from keras_makeavid.json_files import read_object, write_json
from keras_makeavid.moving_shapes.evaluation import ATTRIBUTES, SPLITS
from keras_makeavid.presets import (
    FEW_STEPS_FILE,
    HUB_PREFIX,
    preset_folder,
    repository_of,
)
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.validation import refusal, validate
from keras_makeavid.video import write_video

__all__ = ["Card", "publish"]

# Of a task, besides the weights of its UNet, which may be several files.
_FILES = (
    *("config.json", "metadata.json", "preprocessor.json", "task.json"),
    *("task.weights.h5", "assets/tokenizer/merges.txt", "assets/tokenizer/vocab.json"),
)
_WEIGHTS, _INDEX = "model.weights.h5", "model.weights.json"
# What would be taken for a part of the new preset.
_REPLACED = ["model*.weights.h5", _INDEX, FEW_STEPS_FILE, "gallery_*"]
# Owners of the originals of Stable Diffusion 1.x: files of these name no licence.
_OPENRAIL = ("CompVis/", "runwayml/", "stable-diffusion-v1-5/", "sd-legacy/")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")

_TEXT = """\
---
{data}
---

# {name}

A text-to-video model for keras-makeavid, which runs in Keras 3 on JAX, PyTorch and
TensorFlow: {task.num_frames} frames of {task.width} x {task.height} pixels by default.

```python
import keras_makeavid as km

task = km.TextToVideo.from_preset("{handle}")
videos = task.generate({prompt}, seed=0)
km.video.write_video("video.mp4", videos[0], fps=task.fps)
```

{gallery}{about}"""


@dataclass(frozen=True)
class Card:
    """What the model card of a preset says that the preset itself does not.

    Args:
        license: The licence, as the hub names it; with `license_link`, any name.
        prompts: What the model does well. The card's code generates the first.
        license_link: Address of the text of a licence that the hub does not know.
        base_model: What the weights were made of, if the preset does not say it: a
            repository of the hub, or `"none"`.
        tags: Further tags.
        about: File of Markdown that follows the code.
        evaluation: `evaluation.json`, as `makeavid evaluate` writes it.
        gallery: Whether to generate a video of each prompt, and to show it.
    """

    license: str
    prompts: Sequence[str]
    license_link: str | None = None
    base_model: str | None = None
    tags: Sequence[str] = ()
    about: StrPath | None = None
    evaluation: StrPath | None = None
    gallery: bool = False


def publish(
    preset: StrPath,
    repository: str,
    card: Card,
    dry_run: StrPath | None = None,
) -> str:
    """Upload a preset with a model card in one commit, whose address is returned.

    An upload that was interrupted goes on if this is called again.

    Args:
        preset: Folder of a whole preset, or name of one of the package.
        repository: `owner/name` on the hub, made if need be.
        card: What to say of it.
        dry_run: A folder to write what would go up to, and return; nothing goes up.

    Raises:
        PermissionError: If no token, of `HF_TOKEN` or `hf auth login`, may write there.
        ValueError: If the preset is not whole, or the card contradicts it.

    Example:
        ```python
        card = keras_makeavid.publishing.Card("apache-2.0", ["a red star moving left"])
        keras_makeavid.publishing.publish(
            "makeavid_motions_small", "you/shapes", card, dry_run="release"
        )
        ```
    """
    if repository_of(handle := f"{HUB_PREFIX}{repository}") != (repository, None):
        raise refusal("A repository of the hub must be owner/name", repository)
    source = Path(preset_folder(preset)).resolve()
    if dry_run is not None:
        if Path(dry_run).resolve() == source:
            raise refusal("The folder to write must not be the preset's own", dry_run)
        with folder_written_aside(dry_run, replaces="task.json") as aside:
            _write(source, aside, handle, card, shutil.copyfile)
        return str(dry_run)
    api = HfApi()
    try:
        api.whoami()
        with tempfile.TemporaryDirectory() as folder:
            _write(source, Path(folder), handle, card, os.symlink)
            api.create_repo(repository, exist_ok=True)
            return api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message="Upload by keras-makeavid",
                delete_patterns=_REPLACED,
            ).commit_url
    except (errors.LocalTokenNotFoundError, errors.HfHubHTTPError) as error:
        status = error.response.status_code if hasattr(error, "response") else 401
        if status not in (401, 403):
            raise
        said = getattr(error, "server_message", None) or str(error).splitlines()[0]
        needed = "A token is needed, by `hf auth login` or in HF_TOKEN, that may write"
        raise PermissionError(f"{needed} to {repository}: {said}") from error


def _write(source, folder, handle, card, place: Callable[[Path, Path], Any]):
    names = _files_of(source)
    config = read_object(source / "task.json")
    settings = validate(config.get("config"), dict[str, Any], source / "task.json")
    origin = _checked_origin(settings.get("origin") or {}, card)
    about = read_text(card.about) if card.about else ""
    results = _results(card.evaluation) if card.evaluation else None
    # What cannot be loaded is told here, rather than to whom it is for.
    task = TextToVideo.from_preset(source)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        place(source / name, folder / name)
    # What is made of it follows from it.
    (folder / "task.json").unlink()
    config["config"] = {**settings, "origin": origin}
    write_json(folder / "task.json", config, indent=4)
    name, base_model = handle.rpartition("/")[2], origin["base_model"]
    data = ModelCardData(
        library_name="keras-hub",
        pipeline_tag="text-to-video",
        license="other" if card.license_link else card.license,
        license_name=card.license if card.license_link else None,
        license_link=card.license_link,
        base_model=None if base_model == "none" else base_model,
        tags=["keras-makeavid", "keras", *card.tags],
        model_name=name if results else None,
        eval_results=results,
    )
    gallery = ""
    for number, prompt in enumerate(card.prompts if card.gallery else ()):
        path = f"gallery_{number}.gif"
        write_video(folder / path, task.generate(prompt, seed=0)[0], fps=task.fps)
        gallery += f"![{prompt}]({path})\n\n{prompt}\n\n"
    text = _TEXT.format(
        data=data.to_yaml(),
        name=name,
        task=task,
        handle=handle,
        prompt=json.dumps(card.prompts[0], ensure_ascii=False),
        gallery=gallery,
        about=about,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _files_of(folder: Path) -> list[str]:
    """The files of a preset; a `ValueError` says what it lacks."""
    extra = [FEW_STEPS_FILE] if (folder / FEW_STEPS_FILE).is_file() else []
    names = [*_FILES, *extra, _WEIGHTS]
    if (folder / _INDEX).is_file() and not (folder / _WEIGHTS).is_file():
        shards = read_object(folder / _INDEX).get("weight_map")
        shards = validate(shards, dict[str, str | list[str]], folder / _INDEX)
        lists = (s if isinstance(s, list) else [s] for s in shards.values())
        named = {Path(name).name for shard in lists for name in shard}
        names = [*_FILES, *extra, _INDEX, *sorted(named)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        expected = f"{folder} is no whole preset, as save_to_preset writes it"
        raise ValueError(f"{expected}: it lacks {', '.join(missing)}")
    return names


def _checked_origin(known: Any, card: Card) -> dict[str, str]:
    """What the weights were made of, and their licence, which follows from it."""
    origin = validate(known, dict[str, str], "The origin of the preset")
    if card.license_link is None and not _LICENCE.fullmatch(card.license):
        expected = "The licence must be named as by the hub, such as apache-2.0"
        raise refusal(f"{expected}, or have a link", card.license)
    base_model = card.base_model or origin.get("base_model")
    if base_model is None:
        expected = "The preset does not say what it was made of: name the base model"
        raise ValueError(f"{expected}, a repository of the hub, or none")
    is_openrail = base_model.startswith(_OPENRAIL)
    usual = "creativeml-openrail-m" if is_openrail else card.license
    licence = origin.get("license", usual)
    if card.license != licence:
        expected = f"The licence follows from that of {base_model}'s weights, {licence}"
        raise refusal(expected, card.license)
    return {"base_model": base_model, "license": licence}


def _results(path: StrPath) -> list[EvalResult]:
    """The rates of an evaluation, as the hub takes them."""
    report = read_object(path)
    rates = validate(report.get("rates"), dict[str, dict[str, float | None]], path)
    settings = validate(report.get("settings"), dict[str, Any], path)
    return [
        EvalResult(
            task_type="text-to-video",
            dataset_type="moving_shapes",
            dataset_name=f"Moving shapes, {split.replace('_', ' ')}",
            dataset_split=split,
            dataset_args=settings,
            metric_type="accuracy",
            metric_name=name,
            metric_value=value,
        )
        for split in SPLITS
        for name in (*ATTRIBUTES, "all")
        if (value := rates.get(split, {}).get(name)) is not None
    ]
