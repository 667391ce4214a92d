"""Models found in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.text import TextToVideoPreprocessor
from weights_tools.component import Component


@dataclass
class Source:
    """Models found in one place, and what belongs to a pipeline besides.

    Args:
        components: models by their part in a task: `"unet"`, `"vae"`,
            `"text_encoder"` and `"image_unet"`, the model of first frames.
        preprocessor: the tokenizer, if there is one.
        schedule: the noise schedule, if it is told.
        defaults: what a task generates by default, as far as it is told: arguments of
            `TextToVideo`, such as `height`.
    """

    components: dict[str, Component] = field(default_factory=dict)
    preprocessor: TextToVideoPreprocessor | None = None
    schedule: NoiseSchedule | None = None
    defaults: dict[str, Any] = field(default_factory=dict)

    def component(self, part: str) -> Component:
        """The model that plays a part.

        Raises:
            ValueError: if there is none.
        """
        if part not in self.components:
            raise ValueError(
                f"There is no {part} in the source. Received: {sorted(self.components)}"
            )
        return self.components[part]
