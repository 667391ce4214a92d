"""A task that takes adapters and learnt tokens from files (LoRA, textual inversion)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_makeavid.files import StrPath
from keras_makeavid.tasks.fitting import TrainableTask

if TYPE_CHECKING:
    from keras_makeavid.tasks.adapters import LoadedAdapters


class AdaptableTask(TrainableTask):
    """What `TextToVideo` has of adapters and learnt tokens."""

    preprocessor: Any
    text_encoder: Any
    _loaded_adapters: LoadedAdapters | None = None

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
        return self._adapters().load(path, scale, name)

    @property
    def lora_scales(self) -> dict[str, float]:
        """The scale of each loaded adapter by name."""
        return self._adapters().scales

    def set_lora_scales(self, scales: dict[str, float]) -> None:
        """Change the scales of loaded adapters by name; others stay, 0 turns one off.

        Raises:
            ValueError: If a name is not loaded, a scale is no finite number, or the
                weights have changed since, by training or loading others.
        """
        self._adapters().set_scales(scales)

    def unload_lora(self, name: str | None = None) -> None:
        """Take out an adapter, or all: then weights are as before, to the bit."""
        self._adapters().unload(name)

    def fuse_lora(self) -> None:
        """Keep weights as adapters made them; forget those, and the weights before."""
        self._adapters().fuse()

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
        from keras_makeavid.training.lora import save_lora

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
        from keras_makeavid.tasks.adapters import with_embedding

        old: tuple[Any, Any] = (self.preprocessor, self.text_encoder)
        tokens, self.preprocessor, self.text_encoder = with_embedding(*old, path, token)
        for part in old:
            self._tracker.untrack(part)
        self._make_text_program()
        return tokens

    def _adapters(self):
        if self._loaded_adapters is None:
            from keras_makeavid.tasks.adapters import LoadedAdapters

            self._loaded_adapters = LoadedAdapters(self)
        return self._loaded_adapters
