"""Compare two checkpoints, weight by weight and by a forward pass.

Exits with 1 if they differ by more than the tolerance, or one lacks a part.
"""

from __future__ import annotations

from keras_makeavid.cli.weights.options import (
    SOURCE_HELP,
    add_source_options,
    overrides,
)

EXAMPLE = "makeavid weights verify sd-v1-5-inpainting.ckpt PRESET"

_LISTED = 10


def add_arguments(option) -> None:
    """Declare the options."""
    option("first", help=SOURCE_HELP)
    option("second", help="likewise, taken as it is: --set is for FIRST")
    option(
        "--tolerance",
        type=float,
        default=5e-5,
        help="largest difference of a weight, and of an output, that is none",
    )
    option("--part", help="the one part to compare, as unet; all if not given")
    option(
        "--all", action="store_true", help="list every weight, not the largest errors"
    )
    add_source_options(option)


def run(options) -> int:
    """Print the differences; 1 if they are too large."""
    import weights_tools

    parts = weights_tools.verify(
        options.first,
        options.second,
        part=options.part,
        variant=options.variant,
        overrides=overrides(options),
    )
    for part, found in parts.items():
        worst = max(found.tensors.values(), default=0.0)
        if found.tensors:
            print(f"{part}: forward pass {found.forward:.3g}, weights {worst:.3g}")
        else:
            print(f"{part}: there is only one to compare")
        _print_tensors(found, options.all)
        for which, paths in (
            (options.first, found.only_first),
            (options.second, found.only_second),
        ):
            if paths:
                print(f"  {len(paths)} weights are in {which} only, as {paths[0]}")
    same = all(found.max_error <= options.tolerance for found in parts.values())
    missing = [part for part, found in parts.items() if not found.tensors]
    if missing:
        print(f"only one has: {', '.join(missing)}")
    else:
        print("the same" if same else f"they differ by more than {options.tolerance:g}")
    return 0 if same else 1


def _print_tensors(found, every) -> None:
    ranked = sorted(found.tensors.items(), key=lambda pair: -pair[1])
    if not every:
        ranked = [(path, error) for path, error in ranked if error > 0][:_LISTED]
    for path, error in ranked:
        print(f"  {error:.3g}  {path}")
