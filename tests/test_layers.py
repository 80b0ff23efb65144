"""Imports point one way, and the pure layers know nothing of Lightning or Hydra."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "kexue_pl"
PURE = (
    "losses",
    "balancers",
    "gradients",
    "attention",
    "penalties",
    "retrieval",
    "metrics",
    "optim",
)
FRAMEWORKS = {"lightning", "hydra", "omegaconf", "wandb", "pytorch_lightning"}
# A layer may import itself and those before it.
ORDER = (
    ("distributed", "documents", "reading"),
    PURE,
    ("models",),
    ("data",),
    ("tasks", "callbacks"),
    ("report",),
    ("run", "predict", "export", "testing", "tune"),
    ("cli",),
)
ALLOWED = {
    ("callbacks", "run"),  # the guard raises the runner's error
    ("report", "run"),  # reading summaries
    ("tasks", "report"),  # the figures of a task in the style of all figures
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def level(layer: str) -> int:
    return next(number for number, names in enumerate(ORDER) if layer in names)


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    layer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    names = imports(path)
    if layer in PURE:
        assert not {name.split(".")[0] for name in names} & FRAMEWORKS
    assert "pytorch_lightning" not in {name.split(".")[0] for name in names}
    for name in names:
        parts = name.split(".")
        if parts[0] == "kexue_pl" and len(parts) > 1 and parts[1] != layer:
            below = level(parts[1]) <= level(layer)
            assert below or (layer, parts[1]) in ALLOWED, f"{layer} imports {name}"


@pytest.mark.parametrize("layer", PURE)
def test_pure_layers_load_no_framework(layer: str) -> None:
    code = (
        f"import sys, kexue_pl.{layer}\n"
        "heavy = {'lightning', 'hydra', 'wandb', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.returncode == 0, done.stderr
