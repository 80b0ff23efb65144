"""The command line in processes of its own, as a user has it, without paying for the imports again."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing as mp
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Command", "Done", "start_ranks", "until"]

ROOT = Path(__file__).resolve().parents[2]
_SERVER = mp.get_context("forkserver")
_SERVER.set_forkserver_preload(["kexue_pl.testing.preload"])


@dataclass
class Done:
    """What a command left: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def _enter(
    entry: str, arguments: list[str], cwd: str, env: dict[str, str], files: list[str]
) -> None:
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
    """A command that was started; `wait` gives its outcome.

    Args:
        arguments: the words after `train.py`.
        cwd: folder in which it runs.
        env: variables over those of this process.
        entry: the function that is called.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: dict[str, str] | None = None,
        entry: str = "kexue_pl.cli.main",
    ) -> None:
        self.folder = tempfile.mkdtemp()
        self.files = [f"{self.folder}/out", f"{self.folder}/err"]
        base = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def wait(self, seconds: float = 300) -> Done:
        """The outcome.

        Raises:
            AssertionError: it did not end in time; it was killed.
        """
        self.process.join(seconds)
        if self.process.is_alive():
            self.kill_all()
            self.process.join()
            raise AssertionError(f"no end within {seconds} s\n{self.read(1)}")
        self.kill_all()
        assert self.process.exitcode is not None
        return Done(self.process.exitcode, self.read(0), self.read(1))

    def read(self, number: int) -> str:
        """What was written so far to standard output (0) or standard error (1)."""
        path = Path(self.files[number])
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def start_ranks(
    *arguments: str,
    ranks: int,
    cwd: Path,
    env: dict[str, str] | None = None,
    entry: str = "kexue_pl.cli.main",
) -> list[Command]:
    """Start the same command as `ranks` processes of one group, as torchrun does; one as it is."""
    if ranks == 1:
        return [Command(*arguments, cwd=cwd, env=env, entry=entry)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    group |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    return [
        Command(
            *arguments,
            cwd=cwd,
            env={**(env or {}), **group, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            entry=entry,
        )
        for rank in range(ranks)
    ]


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for a condition and return its value.

    Raises:
        AssertionError: it did not come true in time.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("the condition did not come true in time")
