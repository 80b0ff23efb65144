"""The benchmark of multi-task steps runs and prints both tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_prints_times_and_memory() -> None:
    script = ROOT / "scripts" / "bench" / "multitask.py"
    words = ["--kinds", "mlp", "--tasks", "2", "--steps", "1", "--runs", "1"]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[2:-1] for line in done.stdout.splitlines() if "mlp, 2" in line]
    assert len(rows) == 2
    assert all(float(cell) >= 0 for row in rows for cell in row)
