"""The library examples of the page run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

PAGE = Path(__file__).parents[2] / "docs" / "multitask.md"


def test_examples_run_and_fill_gradients(capsys: Any) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    for block in blocks:
        assert len([line for line in block.splitlines() if line.strip()]) < 10
        if "trunk" in names:
            names["trunk"].zero_grad()
        exec(block, names)
        assert all(
            bool(p.grad.isfinite().all()) and bool(p.grad.any())
            for p in names["trunk"].parameters()
        )
    assert "0." in capsys.readouterr().out


def test_every_option_is_in_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in sorted((PAGE.parents[1] / "conf" / "balancer").glob("*.yaml")):
        assert f"`{path.stem}`" in text, path.stem
