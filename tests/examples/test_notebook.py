"""The notebook runs from its first cell to its last, at the smallest sizes."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
SMALLEST = "STEPS, FRAMES, EPOCHS, STEPS_PER_EPOCH = 1, 8, 2, 1"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_notebook_runs(backend, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = [
        number
        for number, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", ())
    ]
    (number,) = parameters
    notebook.cells.insert(number + 1, nbformat.v4.new_code_cell(SMALLEST))
    at_work = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=900, resources=at_work)
    client.execute(env={**os.environ, "KERAS_BACKEND": backend})
    outputs = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    pictures = [output for output in outputs if "image/gif" in output.get("data", ())]
    assert len(pictures) == 5
    text = "".join(output.get("text", "") for output in outputs)
    assert "2 frames to 5 and 8 to 12" in text
    assert 'generate("a red star circling", seed=0)' in text
    files = {path.name for path in (tmp_path / "mine").iterdir()}
    assert {"config.json", "model.weights.h5", "task.weights.h5"} <= files


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and not any(cell.outputs or cell.execution_count for cell in code)
