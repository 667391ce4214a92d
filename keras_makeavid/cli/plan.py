"""Say what a recipe takes of a TPU: memory, arithmetic, bytes and time, without one."""

from keras_makeavid.cli.options import add_recipe_options

EXAMPLE = "makeavid plan tempofunk --topology v4-8"
PROGRAMS = ("both", "training", "sampling")


def add_arguments(option) -> None:
    """Declare the options."""
    add_recipe_options(option, "model.rematerialise=true")
    option("--topology", required=True, help="a slice of TPUs, as v4-8 or v5e-16")
    option("--stage", help="of the recipe; the first if not given")
    option("--program", choices=PROGRAMS, default="both", help="what to compile")
    option(
        "--batch-per-chip",
        type=int,
        metavar="N",
        help="samples of a step on each chip; else the recipe's batch divided, and one "
        "video in sampling",
    )
    option("--height", default=512, help="of the videos")
    option("--width", default=512, help="of the videos")
    option("--picture", metavar="FILE.svg", help="draw the roofline into a file")
    option("--json", default=False, help="print JSON")


def prepare(options) -> None:
    """Refuse a wrong recipe, topology or installation."""
    from keras_makeavid.files import existing_parent
    from keras_makeavid.planning.topology import check_compiler, find_topology
    from keras_makeavid.recipes import load_recipe

    load_recipe(options.recipe, options.set)
    find_topology(options.topology)
    check_compiler()
    existing_parent(options.picture or "roofline.svg")


def run(options) -> None:
    """Compile, and print what the compiler says."""
    import json
    from pathlib import Path

    from keras_makeavid import planning
    from keras_makeavid.recipes import load_recipe

    recipe = load_recipe(options.recipe, options.set)
    topology = planning.find_topology(options.topology)
    sizes = planning.Sizes(options.height, options.width)
    plans = []
    per_chip = options.batch_per_chip
    if options.program != "sampling":
        training = recipe, topology, options.stage, per_chip, sizes
        plans.append(planning.plan_training(*training))
    if options.program != "training":
        plans.append(planning.plan_sampling(recipe, topology, per_chip or 1, sizes))
    numbers = [planning.plan_as_json(plan) for plan in plans]
    if options.picture is not None:
        Path(options.picture).write_text(planning.roofline(numbers), encoding="utf-8")
    if options.json:
        first, *others = numbers
        answer = {**first, **({"sampling": others[0]} if others else {})}
        print(json.dumps(answer), flush=True)
        return
    for plan in plans:
        print("\n".join(planning.plan_lines(plan)), flush=True)
