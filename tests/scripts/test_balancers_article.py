"""The table of the balancers: what it trains is what the experiments train."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kexue_pl.data.toy import toy_losses
from tests.support.cli import train

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "articles"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import balancers
    import descents

    yield balancers, descents
    for name in ("balancers", "descents"):
        sys.modules.pop(name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "case", "name", "lr"),
    [
        ("8870_losses", "scale", "inverse_grad_norm", 0.01),
        ("8896_gradients", "scale", "mgda normalize=gradient", 0.03),
        ("8907_primary", "noise", "primary", 0.01),
    ],
)
def test_a_cell_of_the_table_is_a_run_of_its_experiment(
    tmp_path: Path, scripts: Any, experiment: str, case: str, name: str, lr: float
) -> None:
    steps = 100 if case == "scale" else 30
    words = [f"experiment={experiment}", f"optimizer.lr={lr}", f"trainer.max_steps={steps}"]
    words += ["balancer.normalize=gradient"] * name.startswith("mgda")
    done = train(*words, "seed=1", "threads=1", "paths.output_dir=run", cwd=tmp_path)
    assert done.code == 0, done.err
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    one, two = scripts[0].cell(name, case, lr, 1, steps)
    assert metrics["test/top_left/accuracy"] == pytest.approx(one, abs=1e-6)
    assert metrics["test/bottom_right/accuracy"] == pytest.approx(two, abs=1e-6)
    assert one > 0.15  # above chance: it has learned something, so equality says something


def test_written_out_gradients_of_the_toy_problem_are_those_of_autograd(scripts: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        x = rng.uniform(-10, 10, 2)
        point = torch.tensor(x, requires_grad=True)
        want = [torch.autograd.grad(f, point, retain_graph=True)[0] for f in toy_losses(point)]
        np.testing.assert_allclose(scripts[1].toy_gradients(x), torch.stack(want), rtol=1e-9)


def test_descents_arrive_where_they_should(scripts: Any) -> None:
    _, descents = scripts
    x, arrived = descents.toy(descents.RULES["inverse_grad_norm"](), (0.5, -7.0), 4000)
    assert 0 < arrived <= 4000 and abs(x[0]) < 7
    data = descents.Quadratics(tasks=2, gap=100.0)
    for name, balanced in (("mgda normalize=gradient", True), ("mgda", False)):
        end = descents.descend(descents.RULES[name](), data, 1.0 if balanced else 0.3, 400)
        assert end["front_distance"] < 0.1
        assert (end["balance"] > 0.7 * descents.best_balance(data)) == balanced


def test_the_script_writes_its_tables(
    tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ["--cases", "plain", "--rules", "equal", "--seeds", "2", "--steps", "50"]
    monkeypatch.setattr(sys, "argv", ["balancers.py", *words, "--out", str(tmp_path)])
    scripts[0].main()
    assert {p.name for p in tmp_path.iterdir()} == {"plain.md", "plain.csv", "plain.png"}
    assert "| equal | 0.01 |" in capsys.readouterr().out
    assert len((tmp_path / "plain.csv").read_text().splitlines()) == 3
