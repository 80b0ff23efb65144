"""Every attention, optimizer, callback and penalty, and two ranks, with task=kgclue from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kexue_pl.run.overrides import options
from tests.support.cli import train
from tests.tasks.test_kgclue import write

SMALL = ["task=kgclue", "data=kgclue", "data.batch_size=8", "model.hidden_size=32", "model.layers=1",
         "model.heads=2", "model.max_length=64", "task.lexical_steps=5"]  # fmt: skip
CHOICES = [f"attention={name}" for name in options("attention") if name != "none"]
CHOICES += [f"optimizer={name}" for name in options("optimizer")]
CHOICES += [
    f"callbacks=[default,{name}]"
    for name in options("callbacks")
    if name not in ("default", "none")
]
CHOICES += [f"penalty={name}" for name in options("penalty") if name != "none"]
CHOICES += ["task.constrained=4", "data.rename=0.5"]


def run(folder: Path, *words: str) -> dict[str, Any]:
    one, two = write(folder)
    words = (*SMALL, f"data.train={one}", f"data.valid={two}", *words)
    done = train(*words, "paths.output_dir=run", cwd=folder)
    assert done.code == 0, done.err
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["status"] == "completed"
    metrics: dict[str, Any] = summary["metrics"]
    assert all(value == value for value in metrics.values() if value is not None)
    return metrics


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_choice_trains_and_answers(tmp_path: Path, choice: str) -> None:
    metrics = run(
        tmp_path,
        choice,
        "trainer.max_steps=2",
        "trainer.val_check_interval=2",  # callbacks that wait for a score see one, after both steps
        "task.baselines=false",
    )
    assert metrics["test/combined/keys"] == 100 and "val/score" in metrics


@pytest.mark.slow
def test_two_ranks_answer_each_question_once(tmp_path: Path) -> None:
    figures = {}
    for name, words in (("one", []), ("two", ["accelerator=ddp_cpu", "accelerator.devices=2"])):
        (tmp_path / name).mkdir()
        figures[name] = run(tmp_path / name, *words, "trainer.max_steps=3")
    methods = ("combined", "lexical", "less_prior", "seq2seq", "rule", "unconstrained")
    for method in methods:
        for figure in ("score", "em_s", "em_p", "keys"):
            key = f"test/{method}/{figure}"
            assert figures["two"][key] == pytest.approx(figures["one"][key], abs=1e-3), key
    # A share of 11 questions: a question left out, or taken twice, would show.
    eleven = figures["two"]["test/rule/em"] * 11 / 100
    assert eleven == pytest.approx(round(eleven), abs=1e-6)
