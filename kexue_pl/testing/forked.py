"""The command lines with processes that are forked instead of started anew: the same ranks, jobs and
signals, without the seconds that each interpreter takes to import everything, and without plots. For
tests."""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_pl.run import launch, worker
from kexue_pl.run.launch import end_with_parent
from kexue_pl.testing.frozen import skip_artifacts

__all__ = ["Forked", "train", "tune"]

_FORK = mp.get_context("fork")


class Forked:
    """A forked process with the methods of `subprocess.Popen` that are needed here."""

    def __init__(self, target: Callable[..., Any], *args: Any) -> None:
        self._process = _FORK.Process(target=_child, args=(target, args))
        self._process.start()

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Wait for the end; the exit code."""
        self._process.join()
        return int(self._process.exitcode or 0)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self._process.pid and self.poll() is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()


def _child(target: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if dies := end_with_parent():
        dies()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(
            number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler
        )
    target(*args)


def start_group(config_file: Path, ranks: int) -> Any:
    """In place of torchrun's launcher."""
    return Forked(_agent, config_file, ranks)


def _agent(config_file: Path, ranks: int) -> None:
    """Fork the ranks; the first that fails ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = os.open(config_file.with_name("launcher.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    group = [Forked(_rank, config_file, rank, ranks, port) for rank in range(ranks)]

    def forward(number: int, frame: Any) -> None:
        for one in group:
            one.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, forward)
    while True:
        codes = [one.poll() for one in group]
        if failed := [code for code in codes if code]:
            time.sleep(1)
            for one in group:
                one.kill()
            sys.exit(abs(failed[0]))
        if all(code == 0 for code in codes):
            sys.exit(0)
        time.sleep(0.02)


def _rank(config_file: Path, rank: int, ranks: int, port: int) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(ranks),
        LOCAL_WORLD_SIZE=str(ranks),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    skip_artifacts()
    os._exit(worker.main(str(config_file)))


def start_run(words: list[str], console: Path) -> Any:
    """In place of a fresh interpreter for a trial."""
    return Forked(_run, words, str(console))


def _run(words: list[str], console: str) -> None:
    log = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    sys.argv = ["train.py", *words]
    train()


def train() -> None:
    """`train.py` whose ranks are forked, and which draws nothing."""
    from kexue_pl import cli

    skip_artifacts()
    launch.start_group = start_group
    cli.main()


def tune() -> None:
    """`scripts/tune.py` whose trials and ranks are forked."""
    from kexue_pl.tune import cli, study

    study.start_run = start_run
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(cli.main())
