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
        ValueError: if it is an image model, and the layout one of video models; or
            half of an autoencoder.
    """
    specs = component.weights.specs
    missing = [p for p in component.shapes if layout.holds(p) and p not in specs]
    if missing and component.kind == "vae":
        raise ValueError(
            f"{component.path} is one half of an autoencoder, without "
            f"{missing[0]}: KerasCV's Decoder and its ImageEncoder (published as "
            "vae_encoder.h5) are both needed, in one folder or list"
        )
    if missing:
        raise ValueError(
            f"{component.path} is an image model, and layout {layout.name!r} is "
            "of video models: inflate it first"
        )
