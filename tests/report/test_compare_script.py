"""A run of task=mlm from its settings, and the comparison of scalings on its checkpoint."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from kexue_pl.run.train import train
from tests.support.runs import composed

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "compare_scalings.py"
SMALL = (
    "task=mlm", "data.rows=96", "data.keys=32", "data.values=4", "data.batch_size=16",
    "data.train_length=16", "data.eval_lengths=[16,32,64]", "data.test_tokens=128",
    "model.hidden_size=16", "trainer.enable_progress_bar=false",
    "trainer.enable_model_summary=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_scalings", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_run_and_compare(tmp_path, script, capsys):
    train(composed(tmp_path, *SMALL))
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "completed"
    assert {f"test/accuracy@{n}" for n in (16, 32, 64)} <= set(summary["metrics"])
    assert {p.name for p in (tmp_path / "plots").glob("*_by_length.png")} == {
        "accuracy_by_length.png", "entropy_by_length.png",
    }  # fmt: skip

    checkpoint = str(tmp_path / "checkpoints" / "best.ckpt")
    capsys.readouterr()
    names = "entropy_invariant,standard,calibrated"
    assert script.main([checkpoint, "--scalings", names]) == 0
    shown = capsys.readouterr().out
    assert "| standard |" in shown
    assert "calibrated at 64: p = " in shown
    rows = (tmp_path / "scalings" / "scalings.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 3 * 3
    own = dict(zip(rows[0].split(","), rows[3].split(",")))
    assert float(own["accuracy"]) == pytest.approx(summary["metrics"]["test/accuracy@64"], abs=1e-6)
    assert (tmp_path / "scalings" / "scalings.png").stat().st_size > 5000


def test_missing_checkpoint_is_named_in_one_line(tmp_path, script, capsys):
    assert script.main([str(tmp_path / "none.ckpt")]) == 1
    assert capsys.readouterr().err.startswith("error: ")
