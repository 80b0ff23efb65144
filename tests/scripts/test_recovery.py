"""The recovery of article 8968 on real digits: what the page of the step size says, seen."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recovery() -> ModuleType:
    path = ROOT / "scripts" / "articles" / "recovery.py"
    spec = importlib.util.spec_from_file_location("recovery", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mean(
    module: ModuleType, net: str, optimizer: str, factor: float, mode: str
) -> dict[str, float]:
    base = module.BASE[net, optimizer]
    runs = [
        module.run(net, optimizer, base * factor, module.MODES[mode], seed, 20) for seed in range(3)
    ]
    return {name: sum(r[name] for r in runs) / 3 for name in runs[0]}


@pytest.mark.slow
@pytest.mark.parametrize("net", ["linear", "mlp"])
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_a_rate_100_times_too_small_is_recovered_and_a_good_one_kept(
    recovery: ModuleType, net: str, optimizer: str
) -> None:
    good = mean(recovery, net, optimizer, 1, "none")
    lost = mean(recovery, net, optimizer, 0.01, "none")
    assert lost["loss"] > 10 * good["loss"]
    for mode in ("global", "global+gain"):
        found = mean(recovery, net, optimizer, 0.01, mode)
        assert found["loss"] <= 2 * good["loss"]
        assert found["score"] >= good["score"] - 1
        assert mean(recovery, net, optimizer, 1, mode)["loss"] <= 1.05 * good["loss"]


@pytest.mark.slow
def test_plain_sgd_is_recovered_and_not_slowed_down(recovery: ModuleType) -> None:
    good = mean(recovery, "mlp", "sgd", 1, "none")["loss"]
    assert mean(recovery, "mlp", "sgd", 0.01, "global")["loss"] <= 2 * good
    assert mean(recovery, "mlp", "sgd", 1, "global")["loss"] <= 1.05 * good


def test_what_is_lost_is_shown(recovery: ModuleType) -> None:
    run = recovery.run("mlp", "momentum", 30.0, None, 0, 2)
    assert run["lost"] == 1
    shared = {"net": "mlp", "optimizer": "momentum", "base": 0.3, "mode": "none", "steps": 46}
    rows = [
        shared | {"factor": 100, "loss": math.nan, "score": 9.0, "lost": 2},
        shared | {"factor": 1, "loss": 0.5, "score": 90.0, "lost": 0},
    ]
    for row in rows:
        row |= {"loss_error": 0.03, "test_loss": 0.4}
    assert "nan / 0.4 / 9.0 2!" in recovery.markdown(rows, ["none"])
    changed = {"mode": "global", "loss": 1.0, "score": 91.0, "loss_error": 0.08, "test_loss": 0.6}
    rows.append({**rows[1], **changed})
    line = "| mlp | momentum | 1 | global | 2.00 ± 0.20 | 1.50 | +1.0 |"
    assert line in recovery.recovered(rows)


def test_a_base_rate_is_chosen_by_rows_that_were_held_out(
    recovery: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for fold in range(3):
        kept, held = recovery.parts(1437, fold)
        assert len(held) == 287 and sorted([*kept.tolist(), *held.tolist()]) == list(range(1437))
    assert set(recovery.parts(1437, 0)[1].tolist()) != set(held.tolist())
    seen = []

    def run(net: str, name: str, lr: float, mode: None, seed: int, epochs: int, fold: int) -> dict:
        seen.append((round(lr, 3), fold))
        loss = math.nan if lr > 3 else abs(math.log(lr / 0.316))
        return {"loss": -lr, "test_loss": loss}  # the training loss alone would take the largest

    monkeypatch.setattr(recovery, "run", run)
    assert recovery.tuned("linear", "momentum", 20) == pytest.approx(0.316, rel=1e-2)
    assert len(seen) == 21 and {fold for _, fold in seen} == {0, 1, 2}


def test_the_problem_of_matching_trains(recovery: ModuleType) -> None:
    before = recovery.run("matching", "adamw", 0.0, None, 0, 1)
    after = recovery.run("matching", "adamw", 0.03, {"scale": "global"}, 0, 4)
    assert after["loss"] < before["loss"]
    assert after["score"] > before["score"]
