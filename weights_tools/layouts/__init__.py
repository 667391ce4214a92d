"""How each published layout names and orders the weights of our models: one table.

`LAYOUTS` holds every layout of every kind of model but those of KerasCV, which has
its own module; both directions of every conversion follow from it.
"""

from weights_tools.layouts.autoencoder import VAE_LAYOUTS
from weights_tools.layouts.layout import Layout
from weights_tools.layouts.text_encoder import TEXT_ENCODER_LAYOUTS
from weights_tools.layouts.unet import UNET_LAYOUTS

LAYOUTS: tuple[Layout, ...] = (
    *UNET_LAYOUTS,
    *VAE_LAYOUTS,
    *TEXT_ENCODER_LAYOUTS,
)


def get_layout(kind: str, name: str) -> Layout:
    """The layout of a name for a kind of model.

    Args:
        kind: `"unet"`, `"vae"` or `"text_encoder"`.
        name: name of the layout.

    Raises:
        ValueError: if that kind has no layout of this name; lists those it has.

    Example:
    ```python
    get_layout("unet", "ldm").tensor_name("time_embedding/linear_1/bias")
    ```
    """
    named = {layout.name: layout for layout in LAYOUTS if layout.kind == kind}
    if name not in named:
        raise ValueError(
            f"layout must be one of {sorted(named)} for a {kind}. Received: {name!r}"
        )
    return named[name]


__all__ = ["LAYOUTS", "Layout", "get_layout"]
