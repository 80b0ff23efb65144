"""Two ranks equal one process on the joint batch, for every rule and both levels."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from kexue_pl import balancers as b
from tests.balancers.rules import FACTS
from tests.gradients.rank_runs import (
    FILES,
    LONG,
    RULES,
    SHORT,
    Net,
    Run,
    encoding_run,
    every_run,
    flat,
    made,
    needs,
)
from tests.support.ranks import run_ranks

Key = tuple[str, str, str]
CASES = [(level, name) for name in RULES for level in ("encoding", "parameters")]
# Weights that no batch enters: what each rank computes by itself is right.
BLIND = ("constant", "equal", "prior", "scheduled")
# At the encoding an averaged Gram is the right one over the number of ranks, which rules of degree 1
# do not see; of these rules the step or the weights change with the scale of the Gram.
DEGREE = ("fairgrad", "inverse_grad_norm", "inverse_grad_norm_ema", "mgda_normalized", "nash")
# Weights that are learnt by small steps have not come far apart after ten of them.
LEARNT = ("gradnorm", "imtl_l", "uncertainty")
pytestmark = pytest.mark.slow


@cache
def results() -> tuple[list[dict[Key, Run]], dict[Key, Run]]:
    """One pair of processes for everything, and one process alone."""
    return run_ranks(every_run, 2, LONG), every_run(0, 1, SHORT)


@pytest.mark.parametrize(("level", "name"), CASES)
def test_two_ranks_equal_one_process(level: str, name: str) -> None:
    if level == "encoding" and needs(name)[1]:
        pytest.skip("refused at the encoding level")
    two, one = results()
    want, got = one[level, "", name], two[0][level, "", name]
    for a, c in ((got.short, want.short), (got.weights[:SHORT], want.weights)):
        scale = float(c.abs().max().clamp(min=1))
        assert float((a - c).abs().max()) <= 1e-6 * scale
    assert bool(want.short.isfinite().all()) and not torch.equal(want.short, flat(Net()))


@pytest.mark.parametrize(("level", "name"), CASES)
def test_fifty_steps_keep_the_ranks_identical(level: str, name: str) -> None:
    if level == "encoding" and needs(name)[1]:
        pytest.skip("refused at the encoding level")
    ranks = [result[level, "", name] for result in results()[0]]
    assert len(ranks[0].weights) == LONG
    assert bool(ranks[0].end.isfinite().all()) and not torch.equal(ranks[0].end, ranks[0].short)
    assert all(torch.equal(first, second) for first, second in zip(*ranks, strict=True))


def naive_cases() -> list[Key]:
    """(level, what each rank does by itself, rule)."""
    out: list[Key] = []
    for level, name in CASES:
        gram, matrix = needs(name)
        if not (matrix and level == "encoding"):
            out += [(level, "weights", name)] + [(level, "gram", name)] * (gram and not matrix)
    return out


def trunk(run: Run) -> Tensor:
    """The shared parameters after SHORT steps."""
    return run.short[: sum(p.numel() for p in Net().trunk.parameters())]


@pytest.mark.parametrize("key", naive_cases(), ids=lambda key: " ".join(key))
def test_naive_reductions_fail_the_same_comparison(key: Key) -> None:
    """One process passes even so, since there they are right; the ranks agree even so."""
    two, one = results()
    level, naive, name = key
    right, wrong = one[level, "", name], two[0][key]
    torch.testing.assert_close(one[key].short, right.short, atol=1e-6, rtol=0)
    assert torch.equal(wrong.end, two[1][key].end)
    if naive == "weights" and name in BLIND:
        torch.testing.assert_close(wrong.short, right.short, atol=1e-9, rtol=0)
        return
    if (level, naive) == ("encoding", "gram") and name not in DEGREE:
        torch.testing.assert_close(wrong.weights, right.weights, atol=1e-6, rtol=1e-6)
        return
    if not needs(name)[1]:  # weights
        apart = (wrong.weights - right.weights).abs().max() / right.weights.abs().max()
        assert float(apart) > 1e-2
    start = flat(Net())[: len(trunk(right))]
    apart = (trunk(wrong) - trunk(right)).norm() / (trunk(right) - start).norm()
    assert float(apart) > (1e-4 if name in LEARNT else 1e-2)


def test_window_form_equals_the_big_batch_on_one_and_two_ranks() -> None:
    two, one = results()
    big = encoding_run("inverse_grad_norm")
    for got in (one, two[0]):
        run = got["encoding", "window", "inverse_grad_norm"]
        torch.testing.assert_close(run.short, big.short, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(run.weights, big.weights, atol=1e-9, rtol=1e-9)


def test_every_option_and_every_exported_rule_is_compared() -> None:
    options = {name: OmegaConf.load(path)["_target_"] for name, path in FILES.items()}
    assert len(options) >= 33 and set(options) <= set(RULES)
    for name, target in options.items():
        kind = type(made(name))
        assert f"{kind.__module__}.{kind.__qualname__}" == target
    rules = {
        name
        for name in b.__all__
        if isinstance(getattr(b, name), type) and issubclass(getattr(b, name), b.Balancer)
    }
    assert rules - {"Balancer"} == {type(made(name)).__name__ for name in RULES}
    assert set(FACTS) <= set(RULES)
