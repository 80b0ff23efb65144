"""The page of benchmarks holds what each script printed, and keeps the sections of earlier calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripts import run_script


@pytest.mark.slow
def test_page_is_what_the_scripts_printed(tmp_path: Path) -> None:
    work, page = tmp_path / "work", tmp_path / "benchmarks.md"
    work.mkdir()
    (work / "matching.md").write_text("## Kept from before\n", encoding="utf-8")
    words = ["scripts/bench/all.py", "--only", "step_size"]
    words += ["--work", str(work), "--out", str(page)]
    done = run_script(*words)
    assert done.code == 0, done.err
    text = page.read_text(encoding="utf-8")
    assert text.index("## Kept from before") < text.index("`python scripts/bench/step_size.py`")
    assert "| AdamW" in text or "| adamw" in text
    assert "torch " in text.splitlines()[2]


def test_an_unknown_benchmark_is_named(tmp_path: Path) -> None:
    words = ["scripts/bench/all.py", "--only", "nothing"]
    done = run_script(*words)
    assert done.code == 2
    assert "no benchmark nothing" in done.err
