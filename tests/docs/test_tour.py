"""The tour is walked from its first command to its last, in order, in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.commands import blocks, commands, run

PAGE = "docs/tour.md"


@pytest.mark.slow
def test_the_tour(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(PAGE):
        done = run(command, tmp_path)
        assert done.code == 0, f"{command}\n{done.err}"
    tour = tmp_path / "outputs" / "tour"
    for name in ("matching", "mine", "gradnorm", "kgclue", "again", "ranks"):
        assert json.loads((tour / name / "summary.json").read_text())["status"] == "completed"
    assert len((tour / "scores.tsv").read_text(encoding="utf-8").splitlines()) >= 4
    assert "loss=CosineMSE" in (tour / "losses" / "report.md").read_text(encoding="utf-8")
    assert len(list((tour / "balancers").glob("*/summary.json"))) == 3
    assert len(list((tour / "lengths").glob("*/summary.json"))) == 2
    assert (tour / "encoder" / "modules.json").is_file()


def test_its_python() -> None:
    (text,) = blocks(PAGE, "python")
    exec(compile(text, PAGE, "exec"), {})
