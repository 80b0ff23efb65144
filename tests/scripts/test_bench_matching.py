"""The benchmark of matching runs and prints its tables."""

from __future__ import annotations

import pytest

from tests.support.scripts import run_script, script


@pytest.mark.slow
def test_prints_both_tables():
    pytest.importorskip("sentence_transformers")
    words = ["--rows", "24", "--pairs", "200", "--seconds", "0.01", "--epoch", "0"]
    done = run_script("scripts/bench/matching.py", *words)
    assert done.code == 0, done.err
    assert done.out.count("| 24 |") == 3
    assert done.out.count("| 200 |") == 4
    assert "| 16 | 0." in done.out  # the gradient of 16 micro-batches beside the whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_times_an_epoch_of_every_side(monkeypatch, capsys):
    pytest.importorskip("sentence_transformers")
    bench = script("scripts/bench/matching_training.py", monkeypatch)
    monkeypatch.setattr(bench, "MODELS", {"static": bench.MODELS["static"]})
    bench.compare(128, 64, 1, with_memory=False)
    said = capsys.readouterr().out
    assert all(f"| static | {side} | " in said for side in bench.SIDES)
