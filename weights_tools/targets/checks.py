"""Whether a layout can hold a model."""

from __future__ import annotations

from weights_tools.component import Component
from weights_tools.layouts import Layout


def check_holds(component: Component, layout: Layout) -> None:
    """Check that a model has every weight that a layout writes.

    Args:
        component: the model.
        layout: the layout to write.

    Raises:
        ValueError: if it is an image model, and the layout one of video models.
    """
    for path in component.shapes:
        if layout.holds(path) and path not in component.weights.specs:
            raise ValueError(
                f"{component.path} is an image model, and layout {layout.name!r} is "
                "of video models: inflate it first"
            )
