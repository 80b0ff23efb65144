"""The command line in a process of its own, as a user has it, without paying for the imports again."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS_CONF = ROOT / "tests" / "conf"
_SERVER = mp.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.support.preload"])


@dataclass
class Done:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def _enter(
    entry: str, arguments: list[str], cwd: str, env: dict[str, str], files: list[str]
) -> None:
    import importlib

    os.chdir(cwd)
    os.environ.update(env)
    for number, path in enumerate(files, 1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    sys.path[:0] = [p for p in os.environ["PYTHONPATH"].split(os.pathsep) if p not in sys.path]
    sys.argv = [str(ROOT / "train.py"), *arguments]
    # A process group of its own, so that a signal reaches what it started too.
    os.setsid()
    mp.set_start_method("fork", force=True)
    module, _, name = entry.rpartition(".")
    getattr(importlib.import_module(module), name)()


class Command:
    """A command that was started; `wait` gives its outcome."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: dict[str, str] | None = None,
        entry: str = "kexue_pl.cli.main",
    ) -> None:
        self.folder = tempfile.mkdtemp()
        self.files = [f"{self.folder}/out", f"{self.folder}/err"]
        base = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "KEXUE_PL_ALLOW_TARGETS": "tests"}
        self.process = _SERVER.Process(
            target=_enter, args=(entry, list(arguments), str(cwd), base | (env or {}), self.files)
        )
        self.process.start()

    def send(self, number: int) -> None:
        """Send a signal to the command alone."""
        assert self.process.pid
        os.kill(self.process.pid, number)

    def kill_all(self) -> None:
        """SIGKILL for the command and what it started."""
        assert self.process.pid
        os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, seconds: float = 300) -> Done:
        """The outcome; a command that does not end is killed and fails the test."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill_all()
            self.process.join()
            raise AssertionError(f"no end within {seconds} s\n{self.read(1)}")
        assert self.process.exitcode is not None
        return Done(self.process.exitcode, self.read(0), self.read(1))

    def read(self, number: int) -> str:
        """What was written so far to standard output (0) or standard error (1)."""
        path = Path(self.files[number])
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def train(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> Done:
    """Run `train.py` with these overrides to its end."""
    return Command(*arguments, cwd=cwd, env=env).wait()


def tiny(*arguments: str) -> list[str]:
    """Overrides that train the tiny task of the tests."""
    return ["--config-dir", str(TESTS_CONF), "task=tiny", *arguments]


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for a condition and return its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("the condition did not come true in time")
