"""The programs of a recipe, lowered for devices that are not there."""

import dataclasses
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from keras_makeavid.given_frames import REPEATED
from keras_makeavid.models import UNetPseudo3D
from keras_makeavid.recipes import Recipe
from keras_makeavid.recipes.schema import Stage
from keras_makeavid.sampling import DenoisingLoop
from keras_makeavid.schedulers import NoiseSchedule
from keras_makeavid.training import phases
from keras_makeavid.training.training_model import ReportingModel

# What a schedule's steps are does not change the program, but for their number.
_STEPS_PER_EPOCH = 1000

Model = TypeVar("Model", bound=keras.Model)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of a sample that a recipe leaves to the dataset, in pixels, and tokens."""

    height: int = 512
    width: int = 512
    tokens: int = 77

    @property
    def latents(self) -> tuple[int, int]:
        """Height and width of the latents of Stable Diffusion's VAE."""
        return self.height // 8, self.width // 8


def unet_maker(preset: str) -> Callable[[], UNetPseudo3D]:
    """What makes the UNet of a preset, or the published one where there is none."""
    if not Path(preset).is_dir():
        return UNetPseudo3D
    return lambda: UNetPseudo3D.from_preset(preset, load_weights=False)


def _unet_of(recipe):
    unet = unet_maker(recipe.model.preset)()
    phases.set_dtype_policy(unet, recipe.model.dtype)
    return unet


def training_model(recipe: Recipe, stage: Stage, sizes: Sizes) -> ReportingModel:
    """The compiled training model of a stage, as `train` makes it, without weights."""
    if not stage.trains_on_latents:
        raise ValueError(
            f"Only training of videos can be planned. Received: stage.{stage.name} "
            f"with the objective {stage.objective!r}"
        )
    steps = stage.length.steps(_STEPS_PER_EPOCH)
    phase = phases.Phase(0, stage.name, stage, 0, steps, _STEPS_PER_EPOCH)

    def make():
        unet = _unet_of(recipe)
        phases.prepare_unet(unet, recipe, stage)
        # What training on latents takes of a `TextToVideo`; the values do not matter.
        states = np.zeros((1, sizes.tokens, unet.context_dim))
        task = types.SimpleNamespace(
            backbone=unet,
            schedule=NoiseSchedule(),
            given_frames=REPEATED,
            vae=types.SimpleNamespace(scaling_factor=1.0),
            preprocessor=types.SimpleNamespace(sequence_length=sizes.tokens),
            encode_prompts=lambda prompts: states,
        )
        return phases.phase_model(task, recipe, phase)

    return build_abstract(make)


def lower_training_step(
    model: ReportingModel, stage: Stage, batch_size: int, sizes: Sizes
) -> Any:
    """Lower the step that `fit` compiles, to a `jax.stages.Lowered`."""
    unet = model.unet
    latents = (batch_size, stage.data.frames, *sizes.latents, unet.out_channels)
    context = (batch_size, sizes.tokens, unet.context_dim)
    parts = {"latents": latents, "context": context}
    batch = {name: abstract_batch(x, "float16") for name, x in parts.items()}
    model.make_train_function()
    kinds = ("trainable", "non_trainable", "optimizer", "metrics")
    state = model._get_jax_state(**{f"{kind}_variables": True for kind in kinds})
    # Keras (backend/jax/trainer.py, `make_train_function`) has no other name of the
    # compiled function inside of its own, which takes an iterator.
    (cell,) = model.train_function.__closure__
    return cell.cell_contents.lower(state, phases.fit_input("video", batch))


def lower_sampling(
    recipe: Recipe, frames: int, batch_size: int, sizes: Sizes
) -> tuple[UNetPseudo3D, Any]:
    """Lower guided sampling, of a step a turn; its UNet without weights comes first."""
    unet = build_abstract(lambda: _unet_of(recipe))
    lowered = DenoisingLoop(unet).lower(
        abstract_batch(
            (batch_size, frames, *sizes.latents, unet.out_channels), "float32"
        ),
        abstract_batch((batch_size, sizes.tokens, unet.context_dim), "float32"),
    )
    return unet, lowered


def build_abstract(make: Callable[[], Model]) -> Model:
    """Make a model whose variables have shape, dtype and layout, to compile alone."""
    import jax

    made = []

    def values():
        made.append(make())
        return [variable.value for variable in variables_of(made[0])]

    shapes = jax.eval_shape(values)
    for variable, shape in zip(variables_of(made[0]), shapes, strict=True):
        layout = variable._layout
        # Assigning would need an array: Keras has no variables of shapes alone.
        variable._value = jax.ShapeDtypeStruct(
            shape.shape, shape.dtype, sharding=layout and _sharding(layout)
        )
    return made[0]


def abstract_batch(shape: tuple[int, ...], dtype: str) -> Any:
    """A batch's array `(B, ...)`, divided over the devices as `fit` divides it."""
    import jax

    distribution = keras.distribution.distribution()
    layout = distribution and _sharding(distribution.get_data_layout(shape))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=layout)


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """All that a model and its optimizer hold, each once."""
    variables = [*model.variables, *model.metrics_variables]
    if getattr(model, "optimizer", None) is not None:
        variables += model.optimizer.variables
    return list({id(variable): variable for variable in variables}.values())


def _sharding(layout):
    return getattr(layout, "backend_layout", layout)
