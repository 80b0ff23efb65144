"""The command line in a process of its own, with the tiny task of the tests."""

from __future__ import annotations

from pathlib import Path

from kexue_pl.testing import command
from kexue_pl.testing.command import ROOT, Done, until

__all__ = ["QUICK", "ROOT", "TESTS_CONF", "Command", "Done", "tiny", "train", "until"]

TESTS_CONF = ROOT / "tests" / "conf"


class Command(command.Command):
    """A command that may name objects of the tests."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        env: dict[str, str] | None = None,
        entry: str = "kexue_pl.cli.main",
    ) -> None:
        allowed = {"KEXUE_PL_ALLOW_TARGETS": "tests", **(env or {})}
        super().__init__(*arguments, cwd=cwd, env=allowed, entry=entry)


QUICK = "kexue_pl.testing.forked.train"
"""The entry of a command whose ranks are forked and which draws nothing: a third of the time."""


def train(
    *arguments: str,
    cwd: Path,
    env: dict[str, str] | None = None,
    entry: str = "kexue_pl.cli.main",
) -> Done:
    """Run `train.py` with these overrides to its end."""
    return Command(*arguments, cwd=cwd, env=env, entry=entry).wait()


def tiny(*arguments: str) -> list[str]:
    """Overrides that train the tiny task of the tests."""
    return ["--config-dir", str(TESTS_CONF), "task=tiny", *arguments]
