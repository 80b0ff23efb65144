"""Every recipe composes at both scales, and the script makes a page of real runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexue_pl.run.files import hold
from tests.support.cli import ROOT
from tests.support.runs import composed
from tests.support.scripts import run_script

ARTICLES = ("8796", "8802", "8823", "8860", "8870", "8896", "8907", "8968")
RECIPES = {path.stem: path for path in sorted((ROOT / "scripts" / "articles").glob("*.yaml"))}
PLANS = [(number, scale) for number in ARTICLES for scale in ("small", "full")]


def recipe(number: str) -> dict[str, Any]:
    return yaml.safe_load(RECIPES[number].read_text(encoding="utf-8"))


def jobs(overrides: list[str]) -> list[list[str]]:
    """Jobs of a sweep that use each choice at least once; commas inside brackets are no choices."""
    choices = []
    for word in overrides:
        key, _, value = word.partition("=")
        values = [value] if value.startswith("[") or "${" in value else value.split(",")
        choices.append([f"{key}={v}" for v in values])
    most = max(len(values) for values in choices)
    return [[values[min(i, len(values) - 1)] for values in choices] for i in range(most)]


def test_there_is_a_recipe_for_every_article() -> None:
    assert tuple(RECIPES) == ARTICLES


@pytest.mark.parametrize(("number", "scale"), PLANS)
def test_recipe_composes(
    number: str, scale: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEXUE_BERT", "KEXUE_TEXT", "KEXUE_PAIRS", "KEXUE_DATA"):
        monkeypatch.setenv(name, str(tmp_path))
    plan = recipe(number)[scale]
    for overrides in plan.get("sweeps", {}).values():
        for job in jobs(overrides):
            composed(tmp_path, *job)
    for script in plan.get("scripts", {}).values():
        assert (ROOT / script["run"][0]).is_file()
    assert plan.get("sweeps") or plan.get("scripts")


@pytest.mark.slow
def test_script_makes_a_page_and_uses_finished_runs_again(tmp_path: Path) -> None:
    words = ["scripts/reproduce.py", "8907", "--seeds", "2", "--jobs", "1"]
    words += ["--work", str(tmp_path / "work"), "--docs", str(tmp_path / "docs")]
    words += ["--override", "trainer.max_steps=4", "data.train_rows=64", "optimizer.lr=1e-2"]
    first = run_script(*words)
    assert first.code == 0, first.err
    text = (tmp_path / "docs" / "8907.md").read_text(encoding="utf-8")
    assert "| rules: balancer=Primary | 2 |" in text
    again = run_script(*words)
    assert again.out.count("already there") == 2
    assert (tmp_path / "docs" / "8907.md").read_text(encoding="utf-8") == text


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """It would remove what the first is writing."""
    words = ["scripts/reproduce.py", "8907", "--work", str(tmp_path), "--docs", str(tmp_path)]
    with hold(tmp_path / "small" / "8907"):
        second = run_script(*words)
    assert second.code == 1 and f"process {os.getpid()} is writing there" in second.err
    assert "another --work" in second.err
