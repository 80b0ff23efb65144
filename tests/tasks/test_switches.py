"""Every penalty trains in every task, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kexue_pl.run.overrides import options
from tests.support.cli import train

SMALL = {
    "matching": ["model=small", "model.hidden_size=32", "model.layers=1", "data.train=200"],
    "mlm": ["data=recall", "model.hidden_size=32", "model.layers=1"],
    "multitask": [],
    "kgclue": [
        "model.hidden_size=32",
        "model.layers=1",
        "data.per_fact=1",
        "task.lexical_steps=5",
        "task.baselines=false",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("task", list(SMALL))
@pytest.mark.parametrize("penalty", [name for name in options("penalty") if name != "none"])
def test_penalty_in_task(tmp_path: Path, task: str, penalty: str) -> None:
    words = [f"task={task}", *SMALL[task], f"penalty={penalty}", "debug=fdr"]
    done = train(*words, "paths.output_dir=run", f"paths.cache={tmp_path}/cache", cwd=tmp_path)
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert all(value == value for value in summary["metrics"].values() if value is not None)


@pytest.mark.parametrize("words", [["balancer=mgda"], ["balancer=pcgrad"], ["task.heads=own"]])
def test_rules_that_read_gradients_refuse_a_penalty(tmp_path: Path, words: list[str]) -> None:
    done = train("task=multitask", "penalty=sam", *words, "paths.output_dir=run", cwd=tmp_path)
    assert done.code != 0
    assert "balancer=equal" in done.err
    assert len(done.err.strip().splitlines()) <= 6


def test_a_penalty_on_inputs_names_what_a_problem_without_inputs_can_have(tmp_path: Path) -> None:
    words = ["task=multitask", "data=toy", "penalty=fgm", "debug=fdr"]
    done = train(*words, "paths.output_dir=run", cwd=tmp_path)
    assert done.code != 0
    assert "penalty=sam" in done.err


def test_a_run_that_stops_before_its_first_validation_is_tested_all_the_same(
    tmp_path: Path,
) -> None:
    words = ["task=matching", "model=static", "data.train=200", "trainer.max_steps=2"]
    done = train(*words, "paths.output_dir=run", cwd=tmp_path)
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    assert metrics["test/threshold"] is not None
