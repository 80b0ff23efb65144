"""The page on extending is run: its files are written, its commands are executed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.support.cli import ROOT, train

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    line.removeprefix("python train.py ")
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.startswith("python train.py")
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extending")
    for kind, text in BLOCKS:
        if kind in ("python", "yaml"):
            name, _, content = text.partition("\n")
            path = folder / name.removeprefix("# ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    return folder


def test_the_page_has_one_command_for_each_kind() -> None:
    assert len(COMMANDS) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_command_of_the_page(written: Path, command: str, tmp_path: Path) -> None:
    words = [*shlex.split(command), f"paths.output_dir={tmp_path / 'run'}"]
    env = {"KEXUE_PL_ALLOW_TARGETS": "mine", "PYTHONPATH": f"{ROOT}:{written}"}
    done = train(*words, cwd=written, env=env)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"
