"""The fault report runs, and says that nothing was lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_quick_report() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench" / "faults.py"), "--quick"],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "OMP_NUM_THREADS": "1",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| SIGKILL while saving | 5 | 5/5 |" in done.stdout
    assert "| flipped bit | 20 | 20/20 |" in done.stdout
    assert "bitwise equal 3/3" in done.stdout
