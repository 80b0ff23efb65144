"""The API reference builds without a warning and holds the public names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripts import run_script

pytest.importorskip("pdoc")


@pytest.mark.slow
def test_reference_builds_without_a_warning(tmp_path: Path) -> None:
    words = ["scripts/api_docs.py", str(tmp_path)]
    done = run_script(*words)
    assert done.code == 0, done.err[-2000:]
    assert "arning" not in done.err
    for package, name in [("losses", "CoSENT"), ("metrics", "best_threshold"), ("optim", "EGD")]:
        page = (tmp_path / "kexue_pl" / f"{package}.html").read_text(encoding="utf-8")
        assert f'id="{name}"' in page
