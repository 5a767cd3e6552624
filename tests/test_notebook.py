"""docs/comparison.ipynb: its outputs are there, and its code runs anew."""

from __future__ import annotations

import ast
import json
from typing import Any

import matplotlib as mpl
import pytest

from helpers.commands import ROOT

CELLS = [
    cell
    for cell in json.loads((ROOT / "docs" / "comparison.ipynb").read_text())["cells"]
    if cell["cell_type"] == "code"
]
SMALL = "experiment=demo_digits epochs=1 model.width=8 model.head_width=8 dataset.limit=200"


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def shown(cell: dict[str, Any]) -> str:
    """The value that the notebook shows below a cell, as text."""
    return "".join(line for output in cell["outputs"] for line in output.get("data", {}).get("text/plain", ()))


def executed(text: str, names: dict[str, Any]) -> Any:
    """Runs the code of a cell; the value of its last line if that is an expression."""
    *first, last = ast.parse(text).body
    whole = ast.Module([*first, *([] if isinstance(last, ast.Expr) else [last])], [])
    exec(compile(whole, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if isinstance(last, ast.Expr) else None


def test_each_cell_has_the_output_of_one_run_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    kinds = {output["output_type"] for cell in CELLS for output in cell["outputs"]}
    assert kinds <= {"execute_result", "display_data"}  # no error and no warning
    assert any("image/png" in output["data"] for cell in CELLS for output in cell["outputs"])
    assert len(source_of(CELLS[0]).replace("\n\n", "\n").splitlines()) <= 10


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    mpl.use("Agg")
    names: dict[str, Any] = {}
    first, *others = CELLS
    table = executed(source_of(first).replace("experiment=demo_digits epochs=3", SMALL), names)
    assert table.index.tolist() == ["greedy", "joint"]
    assert table["count"].tolist() == [3, 3]
    assert [line.split()[0] for line in shown(first).splitlines()[2:]] == ["greedy", "joint"]
    last = names["frame"].query("plan == 'greedy' and depth == 3").test_top1
    assert table.loc["greedy", "mean"] == pytest.approx(last.mean())
    values = [executed(source_of(cell), names) for cell in others]
    memory, answers = values[-2], values[-1]
    assert memory.columns.tolist() == shown(others[-2]).splitlines()[0].split()[: len(memory.columns)]
    assert list(answers) == list(ast.literal_eval(shown(others[-1])))
    assert ast.literal_eval(shown(others[-1]))["class"] == answers["class"]
