"""The example of the page that learns mixture weights runs as it stands and finds the optimum."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "step_size.md"


def test_mixture_weights_equal_those_of_expectation_maximisation() -> None:
    pytest.importorskip("sklearn")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (block,) = [b for b in blocks if "EGD(" in b]
    names: dict[str, Any] = {}
    exec(block, names)
    weights, likelihood = names["weights"].detach().double(), names["likelihood"].double()
    best = torch.full((3,), 1 / 3, dtype=torch.float64)
    for _ in range(2000):
        best = (best[:, None] * likelihood / (best @ likelihood)).mean(1)
    torch.testing.assert_close(weights, best, atol=1e-3, rtol=0)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    alone = -likelihood.log().mean(1)
    even = -(likelihood.mean(0)).log().mean()
    assert names["loss"].item() < min(float(alone.min()), float(even)) - 1e-3
