"""The benchmark of the loop runs and prints a row for each way to train."""

from __future__ import annotations

import pytest

from tests.support.scripts import run_script


@pytest.mark.slow
def test_prints_a_row_for_each_loop() -> None:
    words = ("--task", "static", "--steps", "1010", "--rounds", "2", "--starts", "0")
    done = run_script("scripts/bench/loop.py", *words)
    assert done.code in (0, 1), done.err  # two rounds do not tell the limit
    rows = [line.split("|")[1:-1] for line in done.out.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip() for row in rows] == ["hand", "trainer", "runner"]
    assert all(float(cell) > 0 for row in rows for cell in row[1:-1] if "," not in cell)
    assert [row[2].strip() for row in rows][1] == "1.000"
