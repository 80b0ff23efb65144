"""The benchmark of matching runs and prints its tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_prints_both_tables():
    pytest.importorskip("sentence_transformers")
    script = ROOT / "scripts" / "bench" / "matching.py"
    words = ["--rows", "16", "--pairs", "200", "--seconds", "0.01"]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| 16 |") == 3
    assert done.stdout.count("| 200 |") == 4
