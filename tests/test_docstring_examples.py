"""The examples in the docstrings run, and have the shapes that they tell."""

import ast
import inspect
import re

import pytest
from code_blocks import code_blocks, modules, public_names

# What these show needs files, folders, models or a backend that the reader has.
NEED_MORE = {
    "keras_makeavid.app.serving.serve",
    "keras_makeavid.data",
    "keras_makeavid.models.autoencoders.AutoencoderKL.",
    "keras_makeavid.models.autoencoders.AutoencoderTiny.",
    "keras_makeavid.models.frame_coding.FrameCoding.",
    "keras_makeavid.models.loading.Int8Backbone.quantize",
    "keras_makeavid.planning.plan",
    "keras_makeavid.ray_workers.RayWorkers",
    "keras_makeavid.schedulers.step_table.StepTable",
    "keras_makeavid.tasks.adapters",
    "keras_makeavid.tasks.fitting",
    "keras_makeavid.tasks.many",
    "keras_makeavid.tasks.text_to_video",
    "keras_makeavid.text.text_encoder",
    "keras_makeavid.text.tokenizer.TextToVideoPreprocessor.from_hub_folder",
    # Of JAX alone.
    "keras_makeavid.training.distribution.make_distribution",
    "keras_makeavid.training.logs.read_metrics",
    "keras_makeavid.training.run.train",
    "weights_tools.configs.text_encoder_from_transformers_config",
    "weights_tools.conversion",
    "weights_tools.loading.load_weights",
    "weights_tools.loading.load_model",
    "weights_tools.lora.convert_lora",
    "weights_tools.opening.open_source",
    "weights_tools.verification",
}


def documented(module):
    """Each function, class and method that the module defines, by its full name."""
    for name, member in vars(module).items():
        if getattr(member, "__module__", None) != module.__name__:
            continue
        yield f"{module.__name__}.{name}", member
        if inspect.isclass(member):
            for method_name, method in vars(member).items():
                yield f"{module.__name__}.{name}.{method_name}", method


def examples():
    for module in modules():
        for name, member in documented(module):
            text = inspect.cleandoc(getattr(member, "__doc__", None) or "")
            for block in code_blocks(text):
                if block.language == "python":
                    yield pytest.param(module, block.code, id=name)


EXAMPLES = list(examples())
RUNNABLE = [e for e in EXAMPLES if not any(map(e.id.startswith, NEED_MORE))]


@pytest.mark.parametrize(("module", "code"), RUNNABLE)
def test_an_example_runs_and_tells_the_shapes(module, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {**public_names(), **vars(module)}
    exec(compile(code, "example", "exec"), namespace)
    for line in code.splitlines():
        told = re.fullmatch(r"(\S.*\.shape)  # (\(.*\))", line)
        if told:
            shape = eval(told[1], namespace)
            assert tuple(shape) == ast.literal_eval(told[2])


def test_every_exception_is_still_one():
    for prefix in NEED_MORE:
        assert any(e.id.startswith(prefix) for e in EXAMPLES), prefix
    assert len(RUNNABLE) > 40
