"""The API reference builds without a warning and holds the public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import ROOT

pytest.importorskip("pdoc")


@pytest.mark.slow
def test_reference_builds_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "scripts/api_docs.py", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "arning" not in done.stderr
    for package, name in [("losses", "CoSENT"), ("metrics", "best_threshold"), ("optim", "EGD")]:
        page = (tmp_path / "kexue_pl" / f"{package}.html").read_text(encoding="utf-8")
        assert f'id="{name}"' in page
