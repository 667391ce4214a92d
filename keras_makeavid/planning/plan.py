"""A recipe on a slice of TPUs that is not there: its plan, in words and as JSON."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_makeavid.pages import element
from keras_makeavid.planning import programs
from keras_makeavid.planning.estimate import Estimate, compile_and_estimate
from keras_makeavid.planning.programs import Sizes
from keras_makeavid.planning.topology import GIB, Topology, find_topology
from keras_makeavid.recipes import Recipe
from keras_makeavid.recipes.schema import Distribution, Stage
from keras_makeavid.training.distribution import check_batch_size, make_distribution

# Chips of a host.
_PARTS = 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one program of a recipe takes of each chip of a topology.

    It is the `"training step"` of a stage, or the `"sampling step"`, of none. `model`
    names the UNet; `state_gib` is the memory of what stays, by kind, in 2**30 bytes.
    """

    program: str
    recipe: Recipe
    stage: Stage | None
    topology: Topology
    batch_per_chip: int
    model: str
    state_gib: dict[str, float]
    estimate: Estimate


def plan_training(
    recipe: Recipe,
    topology: Topology,
    stage: str | None = None,
    batch_per_chip: int | None = None,
    sizes: Sizes | None = None,
) -> Plan:
    """Compile a stage's training step for a topology, by the code that `fit` runs.

    Args:
        recipe: The recipe of the training.
        topology: The topology to compile for.
        stage: Name of the stage; `None` is the first.
        batch_per_chip: Samples on each chip; `None` divides the stage's batch.
        sizes: Sizes of a sample; `None` is 512 x 512.

    Raises:
        ValueError: If there is no such stage, or its batch cannot be divided.

    Example:
    ```python
    plan = plan_training(load_recipe("tempofunk"), find_topology("v4-8"))
    plan_as_json(plan)["tflop"]
    ```
    """
    chosen = find_stage(recipe, stage)
    batch_size = chosen.data.batch_size
    if batch_per_chip is not None:
        batch_size = batch_per_chip * topology.chips
    sizes = sizes or Sizes()
    with _distribution(recipe, topology).scope():
        check_batch_size(batch_size, chosen.name)
        model = programs.training_model(recipe, chosen, sizes)
        lowered = programs.lower_training_step(model, chosen, batch_size, sizes)
        state, words = training_state(model), _words(recipe, model.unet)
        found = compile_and_estimate(lowered, topology)
    batch = batch_size // topology.chips
    return Plan("training step", recipe, chosen, topology, batch, words, state, found)


def plan_sampling(
    recipe: Recipe,
    topology: Topology,
    batch_per_chip: int = 1,
    sizes: Sizes | None = None,
) -> Plan:
    """Compile the guided sampling of videos for a topology: one step of its loop.

    Preset, dtype and frames are the recipe's; arguments and errors are those of
    `plan_training`.

    Example:
    ```python
    plan_sampling(load_recipe("tempofunk"), find_topology("v5e-1"))
    ```
    """
    batch_size = batch_per_chip * topology.chips
    with _distribution(recipe, topology).scope():
        unet, lowered = programs.lower_sampling(
            recipe, recipe.data.frames, batch_size, sizes or Sizes()
        )
        state, words = {"parameters": _gib(unet.variables)}, _words(recipe, unet)
        estimate = compile_and_estimate(lowered, topology)
    return Plan(
        "sampling step", recipe, None, topology, batch_per_chip, words, state, estimate
    )


def find_stage(recipe: Recipe, name: str | None) -> Stage:
    """A stage of a recipe by its name; `None` is the first."""
    stages = {stage.name: stage for stage in recipe.stage}
    if name is None:
        return recipe.stage[0]
    if name not in stages:
        expected = f"The recipe has the stages {', '.join(stages)}"
        raise ValueError(f"{expected}. Received: {name!r}")
    return stages[name]


def training_state(model: keras.Model) -> dict[str, float]:
    """Memory of a compiled training's state on each chip, in 2**30 bytes, by kind."""
    optimizer = model.optimizer
    averages = optimizer._model_variables_moving_average if optimizer.use_ema else []
    kept = set(map(id, averages))
    others = [v for v in optimizer.variables if id(v) not in kept]
    state = {"parameters": _gib(model.variables), "optimizer": _gib(others)}
    return {**state, "averages": _gib(averages)}


def _distribution(recipe: Recipe, topology: Topology):
    options = recipe.distribution or Distribution()
    return make_distribution(options, topology.devices())


def _gib(variables):
    """Memory of variables on each chip."""
    total = 0
    for value in (variable.value for variable in variables):
        shape = value.sharding.shard_shape(value.shape)
        total += math.prod(shape) * value.dtype.itemsize
    return total / GIB


def _words(recipe, unet):
    preset = recipe.model.preset
    found = Path(preset).is_dir()
    source = f"preset {preset}" if found else f"published sizes: no preset at {preset}"
    return f"{unet.count_params():,} parameters ({source})"


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The numbers of a plan, all of one chip; `None` where nothing was compiled."""
    numbers = dataclasses.asdict(plan.estimate)
    return {
        "program": plan.program,
        "topology": plan.topology.name,
        "chips": plan.topology.chips,
        "stage": plan.stage and plan.stage.name,
        "batch_per_chip": plan.batch_per_chip,
        "model": plan.model,
        "state_gib": sum(plan.state_gib.values()),
        "state_by_kind_gib": plan.state_gib,
        **numbers,
        "tflop_in_all": plan.estimate.tflop_in_all,
        "hbm_of_chip_gib": plan.topology.chip.hbm_gib,
        "step_seconds_estimate": plan.estimate.seconds,
    }


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan as lines of text."""
    estimate, chip = plan.estimate, plan.topology.chip
    chips = plan.topology.chips
    stage = f" of stage {plan.stage.name}" if plan.stage else ""
    yield f"{plan.program}{stage} on {plan.topology.name}, {chips} chips"
    yield f"  model        {plan.model}"
    yield f"  batch        {plan.batch_per_chip} on each chip"
    for kind, size in plan.state_gib.items():
        yield f"  {kind:12} {size:8.2f} GiB"
    if estimate.tflop is not None:
        yield f"  {'temporaries':12} {estimate.temporaries_gib:8.2f} GiB"
        yield f"  {'output':12} {estimate.output_gib:8.2f} GiB beside the state"
    fits = "fits" if estimate.fits else "DOES NOT FIT"
    yield f"  {'in all':12} {estimate.hbm_gib:8.2f} of {chip.hbm_gib} GiB: {fits}"
    if estimate.tflop is not None:
        yield from _time_lines(plan)
    yield f"  compiled in {estimate.compile_seconds:.0f} s"
    if not estimate.fits:
        yield f"  change: {advice(plan)}"


def _time_lines(plan):
    estimate = plan.estimate
    yield (
        f"  arithmetic   {estimate.tflop_in_all:8.2f} TFLOP "
        f"{estimate.compute_seconds:8.3f} s at the chip's peak "
        f"({estimate.attention_tflop:.2f} of it attention)"
    )
    yield (
        f"  memory       {estimate.gb_moved:8.1f} GB    "
        f"{estimate.memory_seconds:8.3f} s at the chip's peak"
    )
    yield f"  a step takes at least {estimate.seconds:.3f} s"


def roofline(plans: Sequence[Mapping[str, Any]]) -> str:
    """Draw plans of one topology, by `plan_as_json`, under its chip's roof, in SVG."""
    topology = find_topology(plans[0]["topology"])
    peak, bandwidth = topology.chip.tflops, topology.chip.hbm_gb_per_second / 1000

    def place(intensity, tflops):
        x, y = math.log10(intensity), math.log10(tflops)
        return round(120 * x - 50), round(290 - 80 * y)

    def text(x, y, words, anchor="middle", colour="black"):
        return element("text", words, x=x, y=y, text_anchor=anchor, fill=colour)

    grid, parts = "", [text(70, 34, f"{topology.name}: TFLOP/s of a chip", "start")]
    for power in range(4):
        x, y = place(10 ** (power + 1), 10**power)
        grid += f"M{x} 50V290M70 {y}H430"
        parts += [text(x, 308, f"{10 ** (power + 1):,}")]
        parts += [text(62, y + 4, f"{10**power:,}", "end")]
    corners = (10, 10 * bandwidth), (peak / bandwidth, peak), (10**4, peak)
    roof = "L".join(f"{x} {y}" for x, y in (place(*corner) for corner in corners))
    parts += [text(250, 328, "operations a byte of memory")]
    grid_and_roof = (grid, "#ddd"), (f"M{roof}", "black")
    parts += [element("path", d=d, fill="none", stroke=c) for d, c in grid_and_roof]
    for number, plan in enumerate(p for p in plans if p["tflop"] is not None):
        colour = ("#d0393b", "#3a6ea5")[number % 2]
        tflop, seconds = plan["tflop_in_all"], plan["step_seconds_estimate"]
        across, up = place(1000 * tflop / plan["gb_moved"], tflop / seconds)
        parts += [element("circle", cx=across, cy=up, r=5, fill=colour)]
        said = f"{plan['program']}: {tflop:.3g} TFLOP, at least {seconds:.3g} s"
        parts += [text(425, 252 + 20 * number, said, "end", colour)]
    size = {"viewBox": "0 0 480 340", "xmlns": "http://www.w3.org/2000/svg"}
    return element("svg", *parts, **size, style="background: #fff; font: 12px arial")


def advice(plan: Plan) -> str:
    """What to change in the recipe for a plan that does not fit."""
    state, room = sum(plan.state_gib.values()), plan.topology.chip.hbm_gib
    if plan.stage is None:
        return _smaller(plan, "fewer frames or smaller videos")
    distribution = plan.recipe.distribution
    parts = distribution.fsdp if distribution else 1
    # Not over all chips at once: then other things grow (docs/what-fits-where.md).
    more = min(max(_PARTS, 2 * parts), plan.topology.chips)
    ways = []
    if state > room / 3 and parts < more:
        ways.append(f"distribution.fsdp={more} divides the state")
    if plan.recipe.model.rematerialise is not True:
        ways.append("model.rematerialise=true computes activations twice")
    return ", or ".join([*ways, _smaller(plan, "fewer frames")])


def _smaller(plan, otherwise):
    if plan.batch_per_chip > 1:
        return f"a batch of fewer than {plan.batch_per_chip} on each chip"
    return f"more memory on each chip, or {otherwise}"
