"""The audit never takes silence for a clean bill."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PATH = Path(__file__).resolve().parents[2] / "scripts" / "audit.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOUND: dict[str, Any] = {"name": "a", "version": "1", "vulns": []}
HOLE = {"name": "b", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}
UNASKED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}
CASES = [
    ([SOUND], 0, "no known holes"),
    ([SOUND, UNASKED], 0, "asked about 1 packages, not about 1:\nc"),
    ([SOUND, HOLE], 1, "b 1: X-1, mended in 2"),
    ([UNASKED], 2, "not asked"),
    (None, 2, "not asked: pip-audit gave no answer (no network)"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[2][:20])
def test_outcomes(
    audit: ModuleType,
    case: tuple[Any, int, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found, code, says = case
    out = "" if found is None else json.dumps({"dependencies": found})
    done = subprocess.CompletedProcess([], 1, out, "" if found else "no network")
    monkeypatch.setattr(audit, "find_spec", lambda name: None if name == "lightning" else True)
    monkeypatch.setattr(audit.subprocess, "run", lambda *a, **k: done)
    assert audit.main() == code
    assert says in capsys.readouterr().out


def test_without_pip_audit_and_with_a_malicious_release(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "find_spec", lambda name: None)
    assert audit.main() == 2
    assert "not asked: pip-audit is not installed" in capsys.readouterr().out
    monkeypatch.setattr(audit, "version", lambda name: "2.6.3")
    assert audit.main() == 1
    assert "lightning 2.6.3 was a malicious upload" in capsys.readouterr().out
