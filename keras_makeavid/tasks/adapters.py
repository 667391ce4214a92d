"""Adapters (LoRA) and learnt tokens (textual inversion) that a task has loaded."""

import dataclasses
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.tasks.fitting import TrainableTask
from keras_makeavid.tasks.inputs import as_scale
from keras_makeavid.text import TextEncoder, TextToVideoPreprocessor
from weights_tools.architectures import kind_of, variables_of
from weights_tools.checkpoint import FLOATS, all_finite, assign, tensors_of_model
from weights_tools.lora import Adapters, LowRank, read_embedding, read_lora

# The parts of a task that adapters are for, by their attribute of it.
_PARTS = ("backbone", "image_backbone", "text_encoder")
_TABLE = "embedding/token_embedding/embeddings"


class _Place(NamedTuple):
    part: str
    path: str  # Of a kernel in the part.


class _Kernel(NamedTuple):
    base: np.ndarray  # As it was before adapters were merged into it.
    checksum: int  # Of what it is now.


# What an adapter adds to a kernel, and its scale.
_Term = tuple[LowRank, float]
# Adapters by name, and their scales.
_Loaded = dict[str, tuple[Adapters, float]]


@dataclasses.dataclass(frozen=True)
class _Merged:
    """Adapters that a task has loaded. Keras does not look for layers in here."""

    loaded: _Loaded
    kernels: dict[_Place, _Kernel]


class AdaptableTask(TrainableTask):
    """What `TextToVideo` has of adapters and learnt tokens.

    Kernels become `base + sum(scale * delta)`, computed in float32. The kernels as they
    were stay on the host, and unloading puts them back to the bit.
    """

    preprocessor: Any
    text_encoder: Any

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._merged = _Merged({}, {})

    def load_lora(
        self, path: StrPath, scale: float = 1.0, name: str | None = None
    ) -> str:
        """Load adapters (LoRA) for the UNet and the text encoder; return their name.

        They are merged into the weights: generating costs the same with them, and
        nothing is compiled anew when they are loaded, scaled or unloaded. Several add
        up. A file that is saved of the task has them merged.

        Args:
            path: A file of kohya, diffusers or PEFT, or a folder of the last two.
            scale: Weight of what they add.
            name: Name for the methods below; `None` is the file's, without its suffix.

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If the file is damaged, of another kind of adapter (LoKr, DoRA
                and so on), or does not fit the models whole, or the name is taken.

        Example:
        ```python
        task.load_lora("style.safetensors", scale=0.8)
        task.load_lora("lcm-lora-sdv1-5.safetensors", name="lcm")
        task.set_lora_scales({"style": 0.5, "lcm": 1.0})
        task.unload_lora("style")
        ```
        """
        as_scale("scale", scale)
        if name is None:
            name = Path(path).name if os.path.isdir(path) else Path(path).stem
        loaded = self._merged.loaded
        if name in loaded:
            raise ValueError(
                f"An adapter {name!r} is loaded already: unload it, or give another "
                f"name. Loaded: {sorted(loaded)}"
            )
        shapes = {}
        for model in (self.backbone, self.text_encoder):
            variables = variables_of(model)
            shapes[kind_of(model)] = {n: tuple(v.shape) for n, v in variables.items()}
        self._apply_adapters({**loaded, name: (read_lora(path, shapes), scale)})
        return name

    @property
    def lora_scales(self) -> dict[str, float]:
        """The scale of each loaded adapter by name."""
        return {name: scale for name, (_, scale) in self._merged.loaded.items()}

    def set_lora_scales(self, scales: dict[str, float]) -> None:
        """Change the scales of loaded adapters by name; others stay, 0 turns one off.

        Raises:
            ValueError: If a name is not loaded, a scale is no finite number, or the
                weights have changed since, by training or loading others.
        """
        loaded = self._merged.loaded
        for name, scale in scales.items():
            _check_loaded(name, loaded)
            as_scale(f"The scale of {name!r}", scale)
        changed = {name: (loaded[name][0], s) for name, s in scales.items()}
        self._apply_adapters({**loaded, **changed})

    def unload_lora(self, name: str | None = None) -> None:
        """Take out an adapter, or all: then weights are as before, to the bit."""
        loaded = self._merged.loaded
        if name is not None:
            _check_loaded(name, loaded)
        gone = loaded if name is None else {name}
        self._apply_adapters({n: x for n, x in loaded.items() if n not in gone})

    def fuse_lora(self) -> None:
        """Keep weights as adapters made them; forget those, and the weights before."""
        self._merged = _Merged({}, {})

    def save_lora(self, path: StrPath, form: str = "diffusers") -> int:
        """Write the adapters that `compile(trainable="lora")` added, for `load_lora`.

        Arguments and result are those of `training.save_lora`.

        Example:
        ```python
        task.compile(trainable="lora")
        task.fit(windows, epochs=10)
        task.save_lora("style.safetensors")
        ```
        """
        from keras_makeavid.training.trainable import save_lora

        return save_lora(self.backbone, path, form)

    def load_embedding(self, path: StrPath, token: str | None = None) -> list[str]:
        """Load the vectors of a learnt token (textual inversion) from a file.

        Then a prompt may hold the token. A preset that is saved keeps it.

        Args:
            path: A `.safetensors`, `.pt` or `.bin` file of diffusers or AUTOMATIC1111.
            token: The token; `None` is the file's own, or the name of the file.

        Returns:
            The tokens that are new: `token`, and `token_1` and so on for further
            vectors, all of which the first one in a prompt stands for.

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If it is damaged, of another text encoder, or the token known.

        Example:
        ```python
        task.load_embedding("learned_embeds.safetensors")  # ["<cat-toy>"]
        task.generate("a <cat-toy> in the snow")
        ```
        """
        old: tuple[Any, Any] = (self.preprocessor, self.text_encoder)
        tokens, self.preprocessor, self.text_encoder = with_embedding(*old, path, token)
        for part in old:
            self._tracker.untrack(part)
        self._make_text_program()
        return tokens

    def _apply_adapters(self, loaded: _Loaded) -> None:
        """Make each kernel what these adapters make of it; all of them or none."""
        merged, kernels = self._merged, self._merged.kernels
        models = {part: getattr(self, part) for part in _PARTS}
        models = {part: model for part, model in models.items() if model is not None}
        variables = {part: variables_of(model) for part, model in models.items()}
        old = _terms(models, variables, merged.loaded)
        new = _terms(models, variables, loaded)
        changed = [p for p in {**old, **new} if old.get(p) != new.get(p)]
        held = {p: tensors_of_model(m, variables[p]) for p, m in models.items()}
        new_kernels = {}
        for place in changed:
            value = held[place.part].read(place.path)
            kernel = kernels.get(place)
            if kernel is not None and _checksum(value) != kernel.checksum:
                raise ValueError(
                    f"{place.path} has changed since adapters were merged into it, by "
                    "training or by loading weights: `fuse_lora` forgets them, and "
                    "keeps it as it is"
                )
            if value.dtype.name not in FLOATS:
                raise ValueError(
                    f"Adapters are merged into kernels of {FLOATS}: load them before "
                    f"the task is quantized. Received: {place.path} {value.dtype}"
                )
            if kernel is None:
                # A copy: under torch it is the variable's own memory.
                new_kernels[place] = _Kernel(np.array(value), _checksum(value))
        kernels |= new_kernels
        try:
            for place in changed:
                _merge(kernels, place, models, variables, new.get(place, []))
        except BaseException:
            for place in changed:
                _merge(kernels, place, models, variables, old.get(place, []))
            raise
        self._merged = _Merged(loaded, kernels)
        for place in changed:
            if place not in new:
                del kernels[place]


def _check_loaded(name: str, loaded: _Loaded) -> None:
    if name not in loaded:
        raise ValueError(f"There is no adapter {name!r}. Loaded: {sorted(loaded)}")


def _merge(kernels, place: _Place, models, variables, terms: list[_Term]) -> None:
    base = kernels[place].base
    value = base
    if any(scale for _, scale in terms):
        total = base.astype("float32")
        kind = kind_of(models[place.part])
        with np.errstate(over="ignore", invalid="ignore"):
            for pair, scale in terms:
                total += pair.delta(kind, place.path, base.shape, scale)
            value = total.astype(base.dtype)
        if not all_finite(value):
            raise ValueError(
                f"With these scales {place.path} has values beyond {base.dtype}"
            )
    assign(variables[place.part][place.path], value)
    kernels[place] = _Kernel(base, _checksum(value))


def _terms(models, variables, loaded: _Loaded) -> dict[_Place, list[_Term]]:
    """What is added to each kernel, in the order of loading."""
    terms: dict[_Place, list[_Term]] = {}
    for kinds, scale in loaded.values():
        for part, model in models.items():
            kind = kind_of(model)
            fitted = variables["backbone" if kind == "unet" else part]
            for path, pair in kinds.get(kind, {}).items():
                # An image model has nothing temporal, and may take fewer channels.
                variable = variables[part].get(path)
                if variable is not None and variable.shape == fitted[path].shape:
                    terms.setdefault(_Place(part, path), []).append((pair, scale))
    return terms


def _checksum(value: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(value).view("u1").data)


def with_embedding(
    preprocessor: TextToVideoPreprocessor,
    text_encoder: TextEncoder,
    path: StrPath,
    token: str | None,
) -> tuple[list[str], TextToVideoPreprocessor, TextEncoder]:
    """The tokens of a file, and a tokenizer and a text encoder that know them too.

    Several vectors are as many tokens, `token`, `token_1` and so on, as in diffusers.
    """
    config = text_encoder.get_config()
    found, vectors = read_embedding(path, config["embedding_dim"])
    token = found if token is None else token
    tokens = [token, *(f"{token}_{i}" for i in range(1, len(vectors)))]
    # One more, with which the new ones would be taken for more vectors of its own.
    known = {*tokens, f"{token}_1"} & preprocessor.vocabulary.keys()
    if not token.strip() or known:
        problem = f"it has {sorted(known)} already" if known else "it is empty"
        trouble = f"The token {token!r} cannot be added to the tokenizer, as {problem}"
        raise ValueError(f"{trouble}: give another name as `token`")
    preprocessor = preprocessor.with_tokens(tokens)
    first = preprocessor.vocabulary[token]
    size = max(config["vocabulary_size"], first + len(tokens))
    grown = TextEncoder.from_config({**config, "vocabulary_size": size})
    variables = variables_of(grown)
    held = tensors_of_model(text_encoder, variables_of(text_encoder))
    for name, variable in variables.items():
        value = held.read(name)
        if name == _TABLE:
            table = np.zeros(variable.shape, value.dtype)
            table[: len(value)] = value
            table[first : first + len(tokens)] = vectors
            value = table
        assign(variable, value)
    grown.trainable = text_encoder.trainable
    return tokens, preprocessor, grown
