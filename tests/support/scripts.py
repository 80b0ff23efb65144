"""Scripts as modules, and run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.cli import Done

ROOT = Path(__file__).resolve().parents[2]


def script(path: str, monkeypatch: Any) -> Any:
    """The module in a file of this checkout, with its folder importable, as when it is run."""
    file = ROOT / path
    monkeypatch.syspath_prepend(str(file.parent))
    spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def run_script(path: str, *words: str) -> Done:
    """Run a file of this checkout as a user would, on one thread."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / path), *words]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return Done(done.returncode, done.stdout, done.stderr)
