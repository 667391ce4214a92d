import pytest

from keras_makeavid.cli import main
from keras_makeavid.planning import topology


def error(capsys, *words):
    """What `makeavid plan` says and exits with."""
    code = main(["plan", *words])
    return code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tempofunk", "--topology", "v9-8"], "v4, v5e, v5p, v6e and a number"),
        (["tempofunk", "--topology", "v4-9"], "v4 has slices of 8, 16, 32"),
        (["nowhere.toml", "--topology", "v4-8"], "nowhere.toml"),
        (["tempofunk", "--topology", "v4-8", "--set", "model.x=1"], "model.x"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_long(capsys, words, says):
    code, message = error(capsys, *words)
    assert code == 2
    assert says in message
    assert message.count("\n") == 1


def test_without_its_compiler_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    code, message = error(capsys, "tempofunk", "--topology", "v4-8", "--backend=jax")
    assert code == 2
    assert "pip install 'keras-makeavid[tpu]'" in message
