"""The table of article 8823 from the runs of a sweep."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from kexue_pl.run.train import train
from tests.support.runs import composed

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "articles" / "extrapolation.py"


def load():
    spec = importlib.util.spec_from_file_location("extrapolation", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder, attention, accuracies, status="completed"):
    folder.mkdir(parents=True)
    metrics = {f"test/accuracy@{n}": value for n, value in accuracies.items()}
    summary = {"status": status, "metrics": metrics}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    config = {
        "data": {"_target_": "kexue_pl.data.recall.Recall"},
        "attention": {"_target_": f"kexue_pl.attention.x.{attention}"},
        "model": {"positions": None},
    }
    (folder / "config_resolved.yaml").write_text(json.dumps(config), encoding="utf-8")


def test_means_and_spread_beside_the_author(tmp_path, capsys):
    write_run(tmp_path / "0", "Standard", {64: 0.9, 1024: 0.5})
    write_run(tmp_path / "1", "Standard", {64: 0.9, 1024: 0.6})
    write_run(tmp_path / "2", "EntropyInvariant", {64: 0.9, 1024: 0.8})
    write_run(tmp_path / "3", "EntropyInvariant", {64: 0.1, 1024: 0.1}, status="failed")
    assert load().main(tmp_path) == 0
    shown = capsys.readouterr().out
    assert "| author, standard | ? | 43.27 | 11.54 |" in shown
    assert "| Recall, Standard | 2 | 90.00 ± 0.00 | 55.00 ± 7.07 |" in shown
    assert "| Recall, EntropyInvariant | 1 | 90.00 | 80.00 |" in shown
    assert (tmp_path / "extrapolation_recall.png").stat().st_size > 5000


def test_an_empty_folder_is_named(tmp_path, capsys):
    assert load().main(tmp_path) == 1
    assert "no finished runs" in capsys.readouterr().err


def test_cells_are_tested_once_and_paired(tmp_path, capsys, monkeypatch):
    """On recall and an untrained model, in the place of text: the tables and their arithmetic."""
    script = load()
    words = (
        "task=mlm", "data.rows=32", "data.keys=32", "data.values=4", "data.batch_size=16",
        "data.train_length=16", "data.eval_lengths=[16,64]", "data.test_tokens=256",
        "model.hidden_size=16", "trainer.enable_progress_bar=false",
        "trainer.enable_model_summary=false", "test=false",
    )  # fmt: skip
    train(composed(tmp_path / "run", *words))
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    asked = []
    monkeypatch.setattr(script, "trained", lambda *given: asked.append(given[1:3]) or checkpoint)
    monkeypatch.setattr(script, "SCALINGS", ("standard", "entropy_invariant", "ssmax"))
    assert script.text(tmp_path, [0, 1], []) == 0
    shown = capsys.readouterr().out
    assert len(asked) == 3 * 2 * 2
    assert "| author, standard |" in shown
    # "Its own scaling" is what the checkpoint was trained with, here entropy_invariant.
    rows = {line.split(" | ")[0]: line.partition(" | ")[2] for line in shown.splitlines()}
    assert rows["| ssmax, rope"] == rows["| entropy_invariant, rope"]
    assert rows["| ssmax, rope"] != rows["| standard, rope"]
    assert "| entropy_invariant, rerope | +0.00 ± 0.00 |" in shown  # at the training length
    growth = [line for line in shown.splitlines() if line.startswith("| standard, rope |")][-1]
    assert growth.endswith("| 1.00 |")
    assert "ReRoPE minus RoPE at 64, standard: " in shown
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in shown

    monkeypatch.setattr(script, "trained", None)  # all is there: nothing is trained or tested
    assert script.text(tmp_path, [0, 1], []) == 0
    assert capsys.readouterr().out == shown
