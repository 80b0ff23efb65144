"""The commands of a page, run as written but for settings that make them short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.support.cli import ROOT, Command, Done

ENTRIES = {
    "train.py": "kexue_pl.cli.main",
    "scripts/predict.py": "kexue_pl.predict.cli.main",
    "scripts/export.py": "kexue_pl.export.cli.main",
}
SHORT = ["seed=0", "debug=limit", "trainer.max_epochs=1", "trainer.enable_progress_bar=false"]


def blocks(page: str, kind: str) -> list[str]:
    """The fenced blocks of a page in `docs` or of the README."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def commands(page: str) -> list[str]:
    """Each line of the page's bash blocks, comments cut off."""
    lines = "".join(blocks(page, "bash")).splitlines()
    return [re.sub(r"\s{2,}#.*$", "", line).strip() for line in lines if line.strip()]


def run(command: str, cwd: Path) -> Done:
    """Run a line of a page in `cwd`; training is cut to a few batches of one seed."""
    if not command.startswith("python "):
        done = subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True)
        return Done(done.returncode, done.stdout, done.stderr)
    script, *words = shlex.split(command)[1:]
    if script not in ENTRIES:
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words], cwd=cwd, capture_output=True, text=True
        )
        return Done(done.returncode, done.stdout, done.stderr)
    if script == "train.py":
        words = [word for word in words if not word.startswith("seed=")] + SHORT
    return Command(*words, cwd=cwd, entry=ENTRIES[script]).wait()
