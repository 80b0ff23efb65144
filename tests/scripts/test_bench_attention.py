"""The benchmark of attention runs and prints its tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_prints_three_tables():
    script = ROOT / "scripts" / "bench" / "attention.py"
    done = subprocess.run(
        [sys.executable, str(script), "--seconds", "0.01", "--longest", "64"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    for kind in ("equal", "padding", "causal"):
        assert done.stdout.count(f"| {kind} | 16x4x64x64 |") == 1
    ratios = [line.split("|")[-2] for line in done.stdout.splitlines() if "rows |" in line]
    assert sum(0.2 < float(text) < 5 for text in ratios[-2:]) == 2  # they are ratios of one run
