"""How a built model computes: in which dtype, and what again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_makeavid.models import UNetPseudo3D


def set_dtype_policy(model: keras.Model, policy: str) -> None:
    """Let a built model and all its layers compute by another dtype policy."""
    wanted = keras.dtype_policies.get(policy)
    if wanted.variable_dtype != model.variable_dtype:
        raise ValueError(
            f"The model's parameters are {model.variable_dtype}; {wanted.name} has "
            f"{wanted.variable_dtype}"
        )
    for layer in model._flatten_layers():
        layer.dtype_policy = wanted


@contextmanager
def dtype_policy(model: keras.Model, policy: str) -> Iterator[None]:
    """Let a model compute otherwise, as `set_dtype_policy`, while a block runs."""
    before = model.dtype_policy.name
    set_dtype_policy(model, policy)
    try:
        yield
    finally:
        set_dtype_policy(model, before)


def rematerialise_blocks(unet: UNetPseudo3D, rematerialise: bool | str = True) -> None:
    """Compute the inside of residual blocks and transformers again for gradients.

    Only what passes between them is kept from the forward pass, for a second forward
    pass of each of them. Of the feed-forwards alone, it is the widest activations that
    are not kept, two fifths of all, for one product each.

    Args:
        unet: The model, before its training function is compiled.
        rematerialise: `True`, `"feed_forward"`, or `False`, which keeps everything
            again.

    Example:
    ```python
    unet = UNetPseudo3D(block_channels=(32, 64), attention_levels=(True, False))
    rematerialise_blocks(unet)
    ```
    """
    network = unet.network
    for block in (*network.down_blocks, network.mid_block, *network.up_blocks):
        block.rematerialise = rematerialise is True
        for attention in block.attentions:
            transformer = attention.transformer_block
            transformer.rematerialise_feed_forward = rematerialise == "feed_forward"
