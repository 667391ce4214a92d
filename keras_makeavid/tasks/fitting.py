"""A task that trains: Keras's `compile`, `fit` and `evaluate` on latent videos."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import keras_hub

from keras_makeavid.data.clip_encoder import check_encoder
from keras_makeavid.data.latent_dataset import LatentDataset
from keras_makeavid.given_frames import GivenFrames
from keras_makeavid.tensor import Tensor

if TYPE_CHECKING:
    from keras_makeavid.training.video_diffusion import VideoDiffusion


class TrainableTask(keras_hub.models.Task):
    """What `TextToVideo` has of training."""

    # A `_Training`, after `compile`.
    _training: Any = None

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        trainable: str = "temporal",
        *,
        given_frames: GivenFrames | Mapping[str, float] | None = None,
        caption_dropout: float = 0.0,
        min_snr_gamma: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Make the UNet ready to train on latent videos with `fit`.

        Noise schedule, scale of the latents and the empty prompt are the task's own.
        VAE, text encoder and `image_backbone` do not train.

        Args:
            optimizer: As for `keras.Model.compile`; `None` is this package's `AdamW`
                with the settings of the published model.
            trainable: What trains, as for `set_trainable`: `"temporal"`, `"spatial"`,
                `"all"` or a regular expression; or `"lora"`, adapters, which are added
                to every attention, of rank 8, where `add_lora` has added none before.
            given_frames: Which frames it learns to fill videos in from, see
                `GivenFrames`; the task is then one of these. `None` is the task's own.
            caption_dropout: Share of samples with the empty prompt, for guidance.
            min_snr_gamma: Weighs the timesteps by min-SNR-gamma; `None` does not.
            seed: Seed of timesteps, noise, dropout and new adapters.
            **kwargs: See `keras.Model.compile`, such as `run_eagerly`.

        Raises:
            ValueError: If an argument makes no sense, nothing would train, or the task
                was loaded to generate only (`low_memory`, or half precision weights).

        Example:
        ```python
        task.compile(optimizer="adam", trainable="lora", seed=0)
        ```
        """
        # Those who only generate do not wait for it to be imported.
        from keras_makeavid.recipes.schema import Lora
        from keras_makeavid.training.optimizer import AdamW
        from keras_makeavid.training.trainable import add_lora, has_lora
        from keras_makeavid.training.video_diffusion import objective_of

        if self.low_memory or self.backbone.variable_dtype != "float32":
            dtype = self.backbone.dtype_policy.name
            raise ValueError(
                "To train, load the task with dtype='float32' or 'mixed_bfloat16' and "
                f"without low_memory. Received: dtype={dtype!r}, "
                f"low_memory={self.low_memory}"
            )
        if trainable == "lora" and not has_lora(self.backbone):
            lora = Lora()
            add_lora(self.backbone, lora.rank, lora.alpha, lora.layers, seed or 0)
            # The programs compiled before do not know the adapters.
            self._make_denoising_loops()
        settings: dict[str, Any] = {
            "trainable": trainable,
            "given_frames": given_frames,
            "caption_dropout": caption_dropout,
            "min_snr_gamma": min_snr_gamma,
            "seed": seed,
        }
        objective = objective_of(self, **settings)
        self._given_frames = objective.given_frames
        settings["given_frames"] = self.given_frames
        for part in (self.vae, self.text_encoder, self.image_backbone):
            if part is not None:
                part.trainable = False
        if self._training is None:
            self.seed_generator = objective.seed_generator
        else:
            self.seed_generator.state.assign(objective.seed_generator.state)
            objective.seed_generator = self.seed_generator
        self._training = _Training(objective, settings)
        super().compile(optimizer=optimizer or AdamW(), **kwargs)

    def fit(
        self, x: Any = None, *, allow_other_encoder: bool = False, **kwargs: Any
    ) -> keras.callbacks.History:
        """Train on latent videos, after `compile`; return Keras's `History`, of `loss`.

        For each batch Keras runs `call` and `compute_loss`, which here are those of the
        `VideoDiffusion` that `compile` made: it draws noise and compares predictions.

        Args:
            x: A `LatentDataset`; or batches, in any form that Keras takes, of a dict of
                `latents` `(B, F, H, W, C)`, not scaled, and `context` `(B, L, D)`.
            allow_other_encoder: Whether a `LatentDataset` may be of another VAE or text
                encoder than the task's, which is a `ValueError` otherwise.
            **kwargs: See `keras.Model.fit`, such as `epochs` and `callbacks`.

        Example:
        ```python
        task.compile()
        task.fit(LatentDataset("dataset", num_frames=task.num_frames), epochs=10)
        task.evaluate(LatentDataset("held_out", num_frames=task.num_frames))  # 0.031
        ```
        """
        self._check_datasets(x, kwargs.get("validation_data"), allow_other_encoder)
        if kwargs.get("initial_epoch") and isinstance(x, LatentDataset):
            x.epoch = kwargs["initial_epoch"]
        # Past KerasHub's own, which would preprocess.
        return keras.Model.fit(self, x, **kwargs)

    def evaluate(
        self, x: Any = None, *, allow_other_encoder: bool = False, **kwargs: Any
    ) -> Any:
        """Compute the loss on latent videos, after `compile`, as `fit`."""
        if not kwargs.get("_use_cached_eval_dataset"):
            self._check_datasets(x, None, allow_other_encoder)
        return keras.Model.evaluate(self, x, **kwargs)

    def call(self, inputs, training=None, mask=None, **kwargs) -> Tensor:
        if isinstance(inputs, dict) and "latents" in inputs:
            return self._training.objective.call(inputs)
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ) -> Tensor:
        objective = self._training.objective
        return objective.compute_loss(x, y, y_pred, sample_weight, training)

    def preprocess_samples(self, x, y=None, sample_weight=None) -> Any:
        # Training batches hold text states, and the tokenizer has no say in them.
        return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)

    def make_train_function(self, force=False) -> Callable[..., Any]:
        self._update_empty_prompt()
        # TensorFlow traces a step that makes variables on its way a second time.
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def make_test_function(self, force=False) -> Callable[..., Any]:
        self._update_empty_prompt()
        return super().make_test_function(force)

    def _update_empty_prompt(self):
        objective = self._training.objective
        if objective.caption_dropout:
            # Now, as `compile` comes before the weights where a file is loaded.
            objective.empty_context.assign(self.encode_prompts([""])[0])

    def _check_datasets(self, x, validation_data, allow_other_encoder):
        for dataset in (x, validation_data):
            if isinstance(dataset, LatentDataset) and not allow_other_encoder:
                note = check_encoder(dataset.reader, self.vae, self.text_encoder)
                if note is not None:
                    warnings.warn(note, stacklevel=3)

    def get_compile_config(self) -> dict[str, Any] | None:
        # A file has no adapters, and so nothing that would train.
        if not self.compiled or self._training.settings["trainable"] == "lora":
            return None
        return {**super().get_compile_config(), **self._training.settings}

    def compile_from_config(self, config) -> None:
        config = dict(config)
        config["optimizer"] = keras.saving.deserialize_keras_object(config["optimizer"])
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)


@dataclasses.dataclass(frozen=True)
class _Training:
    """How a task trains. Keras does not look for layers to save in here."""

    objective: VideoDiffusion  # Around the task's own UNet, with the task's own seeds.
    settings: dict[str, Any]  # Arguments of `compile`.
