"""The table of article 8823 from the runs of a sweep."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

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
