"""The fault report runs, and says that nothing was lost."""

from __future__ import annotations

import sys

import pytest

from tests.support.scripts import script


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_quick_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["faults.py", "--quick"])
    assert script("scripts/bench/faults.py", monkeypatch).main() == 0
    told = capsys.readouterr().out
    assert "| SIGKILL while saving | 5 | 5/5 |" in told
    assert "| flipped bit | 20 | 20/20 |" in told
    assert "bitwise equal 2/2" in told
