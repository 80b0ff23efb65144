"""The page of benchmarks holds what each script printed, and keeps the sections of earlier calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import ROOT


@pytest.mark.slow
def test_page_is_what_the_scripts_printed(tmp_path: Path) -> None:
    work, page = tmp_path / "work", tmp_path / "benchmarks.md"
    work.mkdir()
    (work / "matching.md").write_text("## Kept from before\n", encoding="utf-8")
    words = [sys.executable, "scripts/bench/all.py", "--only", "step_size"]
    words += ["--work", str(work), "--out", str(page)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert text.index("## Kept from before") < text.index("`python scripts/bench/step_size.py`")
    assert "| AdamW" in text or "| adamw" in text
    assert "torch " in text.splitlines()[2]


def test_an_unknown_benchmark_is_named(tmp_path: Path) -> None:
    words = [sys.executable, "scripts/bench/all.py", "--only", "nothing"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no benchmark nothing" in done.stderr
