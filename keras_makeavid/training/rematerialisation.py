"""Activations computed again in the backward pass, to save their memory."""

from __future__ import annotations

from keras_makeavid.models import UNetPseudo3D


def rematerialise_blocks(unet: UNetPseudo3D, rematerialise: bool | str = True) -> None:
    """Compute the inside of residual blocks and transformers again for gradients.

    Only what passes between them is kept from the forward pass, for a second forward
    pass of each of them. Of the feed-forwards alone, it is the widest activations that
    are not kept, two fifths of all, for one product each.

    Args:
        unet: the model, before its training function is compiled.
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
