"""A plan in words and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from keras_makeavid.planning.plan import Plan

# Chips of a host.
_PARTS = 4


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The numbers of a plan, all of one chip; `None` where nothing was compiled.

    Args:
        plan: The plan of a program.

    Example:
    ```python
    plan_as_json(plan)["tflop"]
    ```
    """
    numbers = dataclasses.asdict(plan.estimate)
    by_kind = numbers.pop("collective_gb")
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
        "collective_gb": None if by_kind is None else sum(by_kind.values()),
        "collective_by_kind_gb": by_kind,
        "step_seconds_estimate": plan.estimate.seconds,
    }


def plan_lines(plan: Plan) -> Iterator[str]:
    """A plan as lines of text.

    Args:
        plan: The plan of a program.

    Example:
    ```python
    for line in plan_lines(plan):
        print(line)
    ```
    """
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
    sent = sum(estimate.collective_gb.values())
    kinds = ", ".join(f"{k} {v:.2f}" for k, v in estimate.collective_gb.items())
    rows = [
        ("arithmetic", f"{estimate.tflop_in_all:8.2f} TFLOP", estimate.compute_seconds),
        ("memory", f"{estimate.gb_moved:8.1f} GB   ", estimate.memory_seconds),
        ("network", f"{sent:8.2f} GB   ", estimate.network_seconds),
    ]
    notes = {
        "arithmetic": f" ({estimate.attention_tflop:.2f} of it attention)",
        "network": f" ({kinds})" if kinds else "",
    }
    for name, amount, seconds in rows:
        note = notes.get(name, "")
        yield f"  {name:12} {amount} {seconds:8.3f} s at the chip's peak{note}"
    yield f"  a step takes at least {estimate.seconds:.3f} s"


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
