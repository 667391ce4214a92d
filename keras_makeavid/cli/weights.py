"""Bring checkpoints of every layout in, out, and from image to video."""

import dataclasses
import json
from typing import Any

from keras_makeavid.json_files import parse_json

_SOURCE = (
    "file, folder in our, diffusers' or the hub's layout, or hf://owner/name[@revision]"
)
# As in `weights_tools`, which the help does not wait for; so are the forms of LoRA.
LAYOUTS = (
    *("keras", "makeavid_torch", "makeavid_flax", "diffusers", "ldm", "kerascv"),
    *("diffusers_motion", "diffusers_adapter", "animatediff"),
)
DTYPES = ("float32", "float16", "bfloat16")
_LISTED = 10


def _add_source_options(option) -> None:
    option("--variant", help="variant of a diffusers folder's files to prefer, as fp16")
    option(
        "--ema",
        dest="variant",
        action="store_const",
        const="ema",
        help="take the running mean of the weights in a checkpoint of LDM",
    )
    option(
        "--set",
        metavar="KEY=VALUE",
        default=[],
        help="what the source does not tell of its UNet, as transformer_epsilon=1e-6",
    )


def _of_source(options) -> dict[str, Any]:
    """How a source is read: its variant, and the arguments of its UNet as set."""
    pairs = {}
    for text in options.set:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise ValueError(f"--set takes KEY=VALUE. Received: {text!r}")
        try:
            pairs[key] = parse_json(value, "--set")
        except ValueError:
            pairs[key] = value
    return {"variant": options.variant, "overrides": pairs}


class Convert:
    """Convert a checkpoint from any layout to another."""

    EXAMPLE = "makeavid weights convert hf://TempoFunk/makeavid-sd-jax PRESET"

    def add_arguments(self, option) -> None:
        option("source", help=_SOURCE)
        option("out", help="preset folder, or a folder or file in another layout")
        option("--layout", choices=LAYOUTS, default="keras", help="layout to write")
        option("--dtype", choices=DTYPES, help="dtype to write; else the source's")
        option("--part", help="the one part to take, as unet; all if not given")
        option("--base", help="source of what SOURCE lacks, as its whole pipeline")
        option("--force", default=False, help="replace an output that exists")
        _add_source_options(option)

    def run(self, options) -> None:
        import weights_tools

        self._write(weights_tools.convert, options)

    def _write(self, function, options, **further: Any) -> None:
        names = ("dtype", "part", "base", "force")
        settings = {name: getattr(options, name) for name in names}
        settings |= {"progress": True, **_of_source(options), **further}
        report = function(options.source, options.out, options.layout, **settings)
        layout = report.layout
        parts = ", ".join(report.parts)
        print(f"{report.out}: {parts} in layout {layout}, {report.nbytes:,} bytes")
        for part, count in report.dropped.items():
            lost = f"{count:,} parameters were dropped"
            print(f"{part}: {lost}, which layout {layout} does not have")
        for part, arguments in report.changed.items():
            others = ", ".join(f"{name} {value!r}" for name, value in arguments.items())
            print(f"{part}: others read layout {layout} with {others}")
        for line in report.left_out:
            print(f"left out of the source: {line}")


class Inflate(Convert):
    """Make a video preset of a Stable Diffusion 1.x image model."""

    EXAMPLE = "makeavid weights inflate sd-v1-5-inpainting.ckpt PRESET"

    def add_arguments(self, option) -> None:
        super().add_arguments(option)
        option(
            "--motion",
            help="AnimateDiff's motion modules, to add in place of pseudo-3D parts: "
            "file, folder or hf:// repository of them, or v1, v2 or v3 for new ones",
        )

    def run(self, options) -> None:
        import weights_tools

        self._write(weights_tools.inflate, options, motion=options.motion)


class Inspect:
    """Tell the layout and the content of a checkpoint, without loading it."""

    EXAMPLE = "makeavid weights inspect sd-v1-5-inpainting.ckpt"

    def add_arguments(self, option) -> None:
        option("source", help=_SOURCE)
        option("--json", default=False, help="print JSON")
        _add_source_options(option)

    def run(self, options) -> None:
        import weights_tools

        parts = weights_tools.inspect(options.source, **_of_source(options))
        if options.json:
            facts = {part: dataclasses.asdict(found) for part, found in parts.items()}
            print(json.dumps({**facts, "left_out": parts.left_out}, indent=2))
            return
        for part, found in parts.items():
            kind = {"unet": "video" if found.video else "image"}.get(found.kind, "")
            print(f"{part}: {found.layout} {kind}".rstrip())
            print(f"  file: {found.path}")
            print(f"  parameters: {found.parameters:,}")
            if found.video:
                print(f"  temporal parameters: {found.temporal_parameters:,}")
            if found.motion:
                middle = "a" if found.config["motion_mid_block"] else "no"
                print(
                    f"  motion modules: AnimateDiff {found.motion}, positions for "
                    f"{found.config['motion_positions']} frames, {middle} middle module"
                )
            print(f"  dtypes: {', '.join(found.dtypes)}")
            for key, value in found.config.items():
                print(f"  {key}: {value}")
        for line in parts.left_out:
            print(f"left out: {line}")


class Verify:
    """Compare two checkpoints, weight by weight and by a forward pass."""

    EXAMPLE = "makeavid weights verify sd-v1-5-inpainting.ckpt PRESET"

    def add_arguments(self, option) -> None:
        option("first", help=_SOURCE)
        option("second", help="likewise, taken as it is: --set is for FIRST")
        option("--tolerance", default=5e-5, help="largest difference that is none")
        option("--part", help="the one part to compare, as unet; all if not given")
        option("--all", default=False, help="list every weight, not the largest errors")
        _add_source_options(option)

    def run(self, options) -> int:
        """Print the differences; 1 if they are too large, or one lacks a part."""
        import weights_tools

        parts = weights_tools.verify(
            options.first, options.second, part=options.part, **_of_source(options)
        )
        for part, found in parts.items():
            worst = max(found.tensors.values(), default=0.0)
            if found.tensors:
                print(f"{part}: forward pass {found.forward:.3g}, weights {worst:.3g}")
            ranked = sorted(found.tensors.items(), key=lambda pair: -pair[1])
            if not options.all:
                ranked = [pair for pair in ranked if pair[1] > 0][:_LISTED]
            for path, error in ranked:
                print(f"  {error:.3g}  {path}")
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
        elif same:
            print("the same")
        else:
            print(f"they differ by more than {options.tolerance:g}")
        return 0 if same else 1


class Lora:
    """Convert a file of adapters (LoRA) to the form of kohya or of diffusers."""

    EXAMPLE = "makeavid weights lora runs/lora/lora.safetensors style.safetensors"

    def add_arguments(self, option) -> None:
        option("source", help="file of adapters")
        option("out", help="file to write, .safetensors")
        forms = ("diffusers", "kohya")
        option("--form", choices=forms, default="diffusers", help="form to write")
        option(
            "--base",
            help="source of the model that they are for; else Stable Diffusion 1.5",
        )
        option("--force", default=False, help="replace an output that exists")

    def run(self, options) -> None:
        from weights_tools import convert_lora

        out, form = options.out, options.form
        layers = convert_lora(
            options.source, out, form, base=options.base, force=options.force
        )
        print(f"{out}: adapters of {layers} layers in the form of {form}")


COMMANDS = {
    "inspect": Inspect(),
    "inflate": Inflate(),
    "convert": Convert(),
    "verify": Verify(),
    "lora": Lora(),
}
