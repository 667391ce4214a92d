import json

import pytest

import weights_tools
from keras_makeavid.cli import main


def test_inspect_prints_json(pipeline, capsys):
    assert main(["weights", "inspect", str(pipeline), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unet"]["config"]["in_channels"] == 9


def test_inspect_prints_lines(video_unet, tmp_path, capsys):
    path = tmp_path / "video.safetensors"
    weights_tools.convert(video_unet, path, "makeavid_torch")
    assert main(["weights", "inspect", str(path), "--set", "num_heads=2"]) == 0
    printed = capsys.readouterr().out
    assert "unet: makeavid_torch video\n" in printed
    assert "  num_heads: 2\n" in printed


def test_inflate_and_verify_agree(pipeline, tmp_path, capsys):
    preset = str(tmp_path / "preset")
    assert main(["weights", "inflate", str(pipeline), preset]) == 0
    assert f"{preset}: unet, vae, text_encoder in layout keras" in (
        capsys.readouterr().out
    )
    assert main(["weights", "verify", str(pipeline), preset]) == 0
    assert capsys.readouterr().out.endswith("the same\n")


def test_verify_exits_with_1_when_they_differ(video_unet, tmp_path, capsys):
    whole, half = (str(tmp_path / name) for name in ("whole", "half"))
    weights_tools.convert(video_unet, whole, "makeavid_torch")
    convert = ["weights", "convert", whole, half, "--layout", "makeavid_flax"]
    assert main([*convert, "--dtype", "float16"]) == 0
    assert main(["weights", "verify", whole, half, "--tolerance", "1e-7"]) == 1
    assert "they differ by more than 1e-07" in capsys.readouterr().out
    assert main(["weights", "verify", whole, half, "--tolerance", "0.1"]) == 0


def test_verify_exits_with_1_when_one_lacks_a_part(pipeline, capsys):
    verify = ["weights", "verify", str(pipeline), str(pipeline / "vae")]
    assert main(verify) == 1
    printed = capsys.readouterr().out
    assert printed.endswith("only one has: unet, text_encoder\n")
    assert main([*verify, "--part", "vae"]) == 0


def test_convert_says_what_is_dropped(video_unet, tmp_path, capsys):
    whole, image = (str(tmp_path / name) for name in ("whole", "image"))
    weights_tools.convert(video_unet, whole, "makeavid_torch")
    assert main(["weights", "convert", whole, image, "--layout", "diffusers"]) == 0
    temporal = weights_tools.inspect(whole)["unet"].temporal_parameters
    assert f"unet: {temporal:,} parameters were dropped" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "nowhere"], "nothing at nowhere"),
        (["inspect", ".", "--set", "gelu"], "--set takes KEY=VALUE"),
        (["convert", "nowhere", "no/folder/out"], "There is no folder no/folder"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(words, message, capsys):
    assert main(["weights", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_lora_writes_another_form(video_unet, tmp_path, capsys):
    from keras_makeavid.training import add_lora, save_lora, without_lora

    base = str(tmp_path / "base.safetensors")
    weights_tools.convert(video_unet, base, "makeavid_torch")
    unet = without_lora(video_unet)
    add_lora(unet, rank=2, alpha=2.0)
    source, out = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b"))
    save_lora(unet, source)
    command = ["weights", "lora", source, out, "--form", "kohya", "--base", base]
    assert main(command) == 0
    assert f"{out}: adapters of 48 layers in the form of kohya" in (
        capsys.readouterr().out
    )
    assert main(command) == 2
    assert f"{out} exists" in capsys.readouterr().err
    assert main(["weights", "lora", source, str(tmp_path / "c.safetensors")]) == 2
    assert "are misshapen" in capsys.readouterr().err
