"""CLIP's text encoder: KerasHub's model with the layer norms of transformers."""

import keras
import keras_hub


@keras.saving.register_keras_serializable(package="keras_makeavid")
class TextEncoder(keras_hub.models.CLIPTextEncoder):
    """KerasHub's CLIP text encoder with transformers' layer norms.

    KerasHub fixes the epsilon of the last layer norm to 1e-6, where CLIP has 1e-5. It
    takes `{"token_ids": int32 (B, L)}` and returns the context `(B, L, D)`, the last
    hidden state after the final layer norm.

    Args:
        *args: Arguments of `keras_hub.models.CLIPTextEncoder`, as `**kwargs` are.
        layer_norm_epsilon: Epsilon of every layer norm.

    Example:
    ```python
    encoder = TextEncoder(49408, 768, 768, 12, 12, 3072)
    context = encoder({"token_ids": preprocessor("a cat")})  # (1, 77, 768)
    ```
    """

    def __init__(self, *args, layer_norm_epsilon: float = 1e-5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.layer_norm.epsilon = layer_norm_epsilon
        for layer in self.encoder_layers:
            layer.layer_norm_1.epsilon = layer_norm_epsilon
            layer.layer_norm_2.epsilon = layer_norm_epsilon

    def get_config(self) -> dict:
        return {**super().get_config(), "layer_norm_epsilon": self.layer_norm_epsilon}
