"""The benchmark of multi-task steps runs and prints both tables."""

from __future__ import annotations

import pytest

from tests.support.scripts import run_script


@pytest.mark.slow
def test_prints_times_and_memory() -> None:
    words = ["--kinds", "mlp", "--tasks", "2", "--steps", "1", "--runs", "1"]
    done = run_script("scripts/bench/multitask.py", *words)
    assert done.code == 0, done.err
    rows = [line.split("|")[2:-1] for line in done.out.splitlines() if "mlp, 2" in line]
    assert len(rows) == 2
    assert all(float(cell) >= 0 for row in rows for cell in row)
