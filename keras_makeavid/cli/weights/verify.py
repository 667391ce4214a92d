"""Compare two checkpoints, weight by weight and by a forward pass.

Exits with 1 if they differ by more than the tolerance.
"""

from __future__ import annotations

from keras_makeavid.cli.weights.source_options import (
    SOURCE_HELP,
    add_source_options,
    overrides,
)

EXAMPLE = "makeavid weights verify sd-v1-5-inpainting.ckpt PRESET"

_LISTED = 10


def add_arguments(parser) -> None:
    """Declare the options."""
    parser.add_argument("first", help=SOURCE_HELP)
    parser.add_argument("second", help="likewise")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=5e-5,
        help="largest difference of a weight, and of an output, that is none",
    )
    parser.add_argument(
        "--all", action="store_true", help="list every weight, not the largest errors"
    )
    add_source_options(parser)


def run(options) -> int:
    """Print the differences; 1 if they are too large."""
    import weights_tools

    parts = weights_tools.verify(
        options.first,
        options.second,
        variant=options.variant,
        overrides=overrides(options),
    )
    for part, found in parts.items():
        worst = max(found.tensors.values(), default=0.0)
        print(f"{part}: forward pass {found.forward:.3g}, weights {worst:.3g}")
        _print_tensors(found, options.all)
        for which, paths in (
            (options.first, found.only_first),
            (options.second, found.only_second),
        ):
            if paths:
                print(f"  {len(paths)} weights are in {which} only, as {paths[0]}")
    same = all(found.max_error <= options.tolerance for found in parts.values())
    print("the same" if same else f"they differ by more than {options.tolerance:g}")
    return 0 if same else 1


def _print_tensors(found, every) -> None:
    ranked = sorted(found.tensors.items(), key=lambda pair: -pair[1])
    if not every:
        ranked = [(path, error) for path, error in ranked if error > 0][:_LISTED]
    for path, error in ranked:
        print(f"  {error:.3g}  {path}")
