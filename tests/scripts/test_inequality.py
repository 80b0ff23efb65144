"""The script of article 8796 counts violations and draws slack and training curves."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_writes_table_and_plots(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "articles" / "inequality.py"
    words = ["--nets", "60", "--epochs", "1", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "inequality.csv").read_text().splitlines()))
    assert [row["form"] for row in rows] == ["spectral", "product", "frobenius", "first_layer"]
    assert all(row["violations"] == "0" and int(row["compared"]) > 30 for row in rows)
    assert "| parameter_gradient, sample |" in done.stdout
    for name in ("slack.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 10_000
