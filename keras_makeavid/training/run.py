"""A whole training, from a recipe."""

import contextlib
import dataclasses
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from keras_makeavid.files import StrPath
from keras_makeavid.json_files import write_json
from keras_makeavid.models.parts import FEW_STEPS
from keras_makeavid.recipes import Recipe, load_recipe
from keras_makeavid.tasks import TextToVideo
from keras_makeavid.training import phases
from keras_makeavid.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    read_state,
    state_like,
    write_state,
)
from keras_makeavid.training.distribution import check_batch_size, distributed
from keras_makeavid.training.image_objectives import with_unit_latents
from keras_makeavid.training.logs import RunLog, SilentLog, StepLog
from keras_makeavid.training.run_callback import (
    Interruption,
    Position,
    RunCallback,
    SharedInterruption,
    UnreadLogs,
)
from keras_makeavid.training.run_folder import RunFolder, check_space
from keras_makeavid.training.trainable import has_lora, save_lora, without_lora
from keras_makeavid.video import read_image, write_video

RESUME = ("never", "auto")
_LINES_OF_A_ROLLBACK = 20
_SECONDS_TO_TELL_OF = 1.0
_OF_A_VARIABLE = 16384


class TrainingFailed(RuntimeError):
    """Training gave up; `report.json` in the run's folder says more."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a training ended, after how many steps of the run.

    The `preset` is `None` if there are steps left, and `signal` what ended it then. Of
    several processes that train together the first, 0, writes.
    """

    folder: Path
    preset: Path | None
    steps: int
    signal: int | None
    process: int = 0


def train(
    recipe: Recipe | StrPath,
    overrides: Sequence[str] = (),
    resume: str = "never",
    allow_other_encoder: bool = False,
) -> TrainingResult:
    """Train by a recipe, through `model.fit`.

    The same recipe gives the same losses and weights, bit for bit, in one go or killed
    and continued. SIGTERM and SIGINT end it after the step at work, with a checkpoint.

    Args:
        recipe: A `Recipe`, the path of one, or the name of one of this package.
        overrides: Keys to set differently in a recipe that is read: see `load_recipe`.
        resume: `"auto"` continues the run in the recipe's folder, if there is one, from
            its newest whole checkpoint; `"never"` refuses a folder that holds a run.
        allow_other_encoder: Whether a dataset may be of another VAE or text encoder.

    Raises:
        RecipeError: If the recipe is wrong.
        FileNotFoundError: If preset, dataset or hints are missing.
        FileExistsError: If the folder holds a run that is not to be continued.
        ImportError: If a package is missing that the recipe needs.
        ValueError: If they do not fit the recipe, or one another.
        RuntimeError: If another process trains in the folder.
        ProcessLost: If one of several processes that train together has ended.
        TrainingFailed: If something was not finite after the last roll-back too, or no
            checkpoint can be written or read.

    Example:
    ```python
    train("cpu", ["model.preset=preset", "data.source=dataset"])
    ```
    """
    if resume not in RESUME:
        raise ValueError(f"resume must be one of {RESUME}. Received: {resume!r}")
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides)
    _check_packages(recipe)
    with distributed(recipe.distribution) as hosts, contextlib.ExitStack() as resources:
        return _Run(recipe, resume, hosts, allow_other_encoder, resources).go()


def _check_packages(recipe: Recipe) -> None:
    wanted = ["grain", "orbax"]
    if recipe.logs.tensorboard:
        wanted.append("tensorboardX")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        problem = f"The recipe needs {', '.join(missing)}"
        raise ImportError(f"{problem}: pip install 'keras-makeavid[train]'")


class _Run:
    """A run at work: what is trained now, and where everything goes."""

    def __init__(self, recipe, resume, hosts, allow_other_encoder, resources):
        self._recipe, self._hosts = recipe, hosts
        self._phases = phases.plan_phases(recipe)
        for stage in recipe.stage:
            check_batch_size(stage.data.batch_size, stage.name)
        self._folder = folder = RunFolder(recipe.run.folder)
        hosts.first_does(lambda: folder.check(recipe, resume == "auto"))
        # Before anything is written.
        samples = recipe.samples
        self._hints = [read_image(p) for p in samples.hints] if samples else []
        # No one else has the task: a stage of adapters ends with other weights.
        preset = recipe.model.preset
        task = TextToVideo.from_preset(preset, dtype="float32")
        self._task = task = phases.with_image_model(task, recipe)
        notes = phases.check_data(recipe, task, allow_other_encoder)
        phases.check_patterns(recipe, task.backbone)
        hosts.first_does(lambda: resources.enter_context(folder.begun(recipe)))
        interruption = Interruption() if hosts.count == 1 else SharedInterruption()
        self._interruption = resources.enter_context(interruption)
        self._preset_dtypes = [m.dtype_policy.name for m in (task.backbone, task.vae)]
        phases.set_dtype_policy(task.backbone, recipe.model.dtype)
        if not all(stage.trains_on_latents for stage in recipe.stage):
            phases.set_dtype_policy(task.vae, recipe.model.dtype)
        self._phase: phases.Phase = self._phases[0]
        self._model = None

        last = self._phases[-1]
        total = last.first_step + last.steps
        self._log = RunLog(recipe, folder, total) if hosts.is_first else SilentLog()
        resources.callback(self._log.close)
        self._checkpoints = Checkpoints(
            folder.checkpoints, recipe.checkpoints.keep, self._log.message, hosts
        )
        resources.push(
            lambda kind, error, trace: self._checkpoints.close(
                finish=not hosts.is_process_loss(error)
            )
        )
        for note in notes:
            self._log.note(note)

    def go(self) -> TrainingResult:
        """Train to the end, or to a signal."""
        position = self._continue() or self._begin()
        while True:
            position = self._fit(position)
            ended = position.step == self._phase.steps
            if ended and self._phase is not self._phases[-1]:
                # Before a signal is obeyed: the next phase begins with a checkpoint.
                position, ended = self._begin_phase(position.phase + 1, position), False
            if self._interruption.signal is not None:
                steps = self._checkpoints.steps()
                self._log.message(
                    f"Stopped at step {self._steps_done(position)}; --resume auto "
                    f"continues at step {steps[-1] if steps else 0}"
                )
                return self._result(position, signal=self._interruption.signal)
            if ended:
                return self._result(position, preset=self._save_preset())

    def _result(self, position, preset=None, signal=None) -> TrainingResult:
        folder, steps = self._folder.path, self._steps_done(position)
        return TrainingResult(folder, preset, steps, signal, self._hosts.number)

    def _begin(self) -> Position:
        """Begin the first phase, and see that checkpoints can be written at all."""
        position = self._begin_phase(0, Position())
        if not self._checkpoints.wait():
            raise TrainingFailed(
                f"The first checkpoint could not be written to {self._folder.path}"
            )
        return position

    def _begin_phase(self, number: int, position: Position) -> Position:
        start = dataclasses.replace(position, phase=number, step=0, skipped_in_a_row=0)
        self._enter(number)
        self._save(start)
        return start

    def _continue(self, rolls_back: bool = False) -> Position | None:
        """Go to the newest checkpoint that can be read, if the run has any.

        A roll-back goes to one that every such run has, past those that a signal left.
        """
        steps = self._checkpoints.steps()
        unreadable, passed = [], []
        for step in reversed(steps):
            try:
                position = msgspec.convert(self._checkpoints.facts(step), Position)
                if rolls_back and self._is_extra(position):
                    passed.append(step)
                    continue
                self._enter(position.phase)
                state = self._checkpoints.restore(step, state_like(self._model))
            except CheckpointError as error:
                unreadable.append(step)
                self._log.message(f"Checkpoint {step} cannot be read: {error}")
                continue
            write_state(self._model, state)
            # Not before: what keeps all of them from being read may pass.
            for step in unreadable:
                aside = self._checkpoints.set_aside(step)
                self._log.message(f"Checkpoint {step} is now {aside}")
            for step in passed:
                self._checkpoints.remove(step)
            return position
        if steps or self._hosts.any(self._log.has_lines):
            raise TrainingFailed(
                f"No checkpoint in {self._folder.path} can be read: put one of this "
                f"run back into {self._folder.checkpoints}, or remove the run's "
                "folder to begin anew"
            )
        return None

    def _is_extra(self, position: Position) -> bool:
        """Whether only a run that a signal stopped has a checkpoint of a position."""
        phase = self._phases[position.phase]
        interval = phase.interval(self._recipe.checkpoints.every)
        due = position.step % interval == 0 or position.step == phase.steps
        return not due or position.skipped_in_a_row > 0

    def _enter(self, number: int) -> None:
        """Have the training model of a phase, with the weights that there are."""
        if self._model is not None and self._phase.number == number:
            return
        before, self._phase = self._phase, self._phases[number]
        self._model = None
        self._task = phases.phase_task(self._task, self._recipe, self._phase, before)
        self._model = phases.phase_model(self._task, self._recipe, self._phase)

    def _fit(self, position: Position) -> Position:
        """Train to the end of the phase, a signal, or a roll-back; return where to."""
        phase, stage = self._phase, self._phase.stage
        done = self._steps_done(position)
        self._log.go_on_at(done)
        callback = RunCallback(self, self._recipe, phase, position, self._interruption)
        remaining = phase.steps - position.step
        if remaining:
            seed = self._recipe.run.seed
            loader = phases.open_loader(stage, seed, self._task, self._hosts)
            first = done + position.data_shift
            callbacks = UnreadLogs([callback], add_history=True, model=self._model)
            with _inputs(loader, stage.objective, first) as inputs:
                self._model.fit(
                    inputs,
                    steps_per_epoch=remaining,
                    shuffle=False,
                    verbose=0,
                    callbacks=callbacks,
                )
        if callback.gave_up_at is not None:
            return self._roll_back(position, callback.gave_up_at)
        return callback.position

    def begun(self, seconds: float) -> None:
        """Tell how long compiling took, if it did: after a roll-back it is done."""
        if seconds >= _SECONDS_TO_TELL_OF:
            self._log.note(
                f"stage {self._phase.name}: its first step was compiled, or found "
                f"compiled, in {seconds:.1f} s"
            )

    def step(self, log: StepLog) -> None:
        """Tell a step."""
        self._log.step(log, last=log.step == self._phase.first_step + self._phase.steps)
        self._checkpoints.check()

    def checkpoint(self, position: Position) -> None:
        """Save a position that a checkpoint is due at."""
        # The next phase begins with a checkpoint of the same step.
        if position.step < self._phase.steps or self._phase is self._phases[-1]:
            self._save(position)

    def _save(self, position: Position) -> None:
        self._checkpoints.save(
            self._steps_done(position),
            read_state(self._model),
            dataclasses.asdict(position),
            extra=self._is_extra(position),
        )

    def sample(self, step: int) -> None:
        """Generate the sample videos of a step of the phase."""
        step += self._phase.first_step
        samples = self._recipe.samples
        with self._model.optimizer.averaged_weights():
            videos = [
                self._task.generate(
                    prompt,
                    hint_image=self._hints[number] if self._hints else None,
                    num_frames=samples.frames or self._recipe.data.frames,
                    num_steps=samples.steps,
                    guidance_scale=samples.guidance,
                    # The same noise each time.
                    seed=self._recipe.run.seed + number,
                )[0]
                for number, prompt in enumerate(samples.prompts)
            ]
        if not self._hosts.is_first:
            return
        folder = self._folder.samples / f"step-{step:08}"
        fps = samples.fps or self._task.fps
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number, frames in enumerate(videos):
                write_video(folder / f"{number}.mp4", frames, fps)
                self._log.video(step, samples.prompts[number], frames, fps)
        except OSError as error:
            self._log.message(f"Samples of step {step} cannot be written: {error}")

    def _roll_back(self, position: Position, log: StepLog) -> Position:
        """Go back to the last checkpoint, to go on behind the data that failed."""
        guard = self._recipe.guard
        lines = self._log.last_lines(_LINES_OF_A_ROLLBACK)
        if len(position.rollbacks) >= guard.max_rollbacks:
            self._give_up(position, log, lines)
        target = self._continue(rolls_back=True)
        assert target is not None, "a run begins with a checkpoint"
        record = {
            "from_step": log.step,
            "to_step": self._steps_done(target),
            "past_data_step": log.data_step,
            "lines": lines,
        }
        rollbacks = (*position.rollbacks, record)
        # Those since that checkpoint have all lowered the rate, which it does not know.
        lowered = guard.lr_factor ** (len(rollbacks) - len(target.rollbacks))
        scale = self._model.optimizer.learning_rate_scale
        scale.assign(scale * lowered)
        self._write(self._folder.rollbacks, rollbacks)
        self._log.message(
            f"{guard.patience} steps in a row were not finite, up to step {log.step}: "
            f"back to step {record['to_step']} and on behind batch {log.data_step}, "
            f"at {float(np.asarray(scale)):g} of the learning rate"
        )
        shift = log.data_step + 1 - self._steps_done(target)
        return dataclasses.replace(target, data_shift=shift, rollbacks=rollbacks)

    def _give_up(self, position, log, lines):
        report = {
            "reason": "losses or gradients were not finite after every roll-back",
            "step": log.step,
            "data_step": log.data_step,
            "last_lines": lines,
            "rollbacks": position.rollbacks,
        }
        self._write(self._folder.report, report)
        raise TrainingFailed(
            f"Nothing finite came any more at step {log.step}, after "
            f"{len(position.rollbacks)} roll-backs: see {self._folder.report}"
        )

    def _write(self, path, value):
        if not self._hosts.is_first:
            return
        try:
            write_json(path, value)
        except OSError as error:
            self._log.message(f"{path} cannot be written: {error}")

    def _save_preset(self) -> Path:
        task = self._task
        parts = (task.backbone, task.text_encoder, task.vae, task.image_backbone)
        values = [v for part in parts if part is not None for v in part.variables]
        # HDF5 adds some kilobytes to each variable.
        needed = sum(4 * math.prod(v.shape) + _OF_A_VARIABLE for v in values)
        self._hosts.first_does(lambda: check_space(self._folder.path, needed))
        # Presets keep these flags: what this run froze is not frozen in the next.
        task.vae.trainable = task.text_encoder.trainable = True
        with (
            self._model.optimizer.averaged_weights(),
            phases.dtype_policy(task.backbone, self._preset_dtypes[0]),
            phases.dtype_policy(task.vae, self._preset_dtypes[1]),
            self._hosts.holding(values),
        ):
            self._hosts.first_does(self._write_preset)
        return self._folder.preset

    def _write_preset(self):
        task = self._task
        if has_lora(task.backbone):
            save_lora(task.backbone, self._folder.lora)
            task = phases.with_parts(task, backbone=without_lora(task.backbone))
        if self._phase.stage.objective == "autoencoder":
            loader = phases.open_loader(self._phase.stage, self._recipe.run.seed, task)
            task = phases.with_parts(task, vae=with_unit_latents(task.vae, loader))
        if self._phase.stage.objective == "distillation":
            task = phases.with_parts(task, **FEW_STEPS)
        task.save_to_preset(self._folder.preset)

    def _steps_done(self, position: Position) -> int:
        return self._phases[position.phase].first_step + position.step


@contextlib.contextmanager
def _inputs(loader, objective, first):
    """Batches in the form that `fit` takes."""
    batches = loader.batches(first)
    try:
        yield (phases.fit_input(objective, batch) for batch in batches)
    finally:
        # TensorFlow's thread may be at work in it still, and closes it then.
        with contextlib.suppress(ValueError):
            batches.close()
