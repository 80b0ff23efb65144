"""What holds for every rule: dead tasks, scale, order, state, messages."""

from __future__ import annotations

import pytest
import torch

from kexue_pl import balancers as b
from tests.balancers.rules import FACTS, cosine, draw, gram_of, update

NAN = float("nan")


@pytest.mark.parametrize("name", FACTS)
def test_dead_task_leaves_the_others_as_without_it(name: str) -> None:
    if name in ("constant", "scheduled", "prior", "stch", "rlw", "gradvac"):
        pytest.skip("holds an entry or a draw for each task; covered below")
    rows, losses = draw(3)
    want = FACTS[name].make().weights(gram_of(rows), losses)
    for bad, loss in ((0.0, NAN), (NAN, NAN), (NAN, 1.0)):
        more = torch.cat([rows, torch.full((1, rows.shape[1]), bad)])
        got = FACTS[name].make().weights(gram_of(more), torch.cat([losses, torch.tensor([loss])]))
        assert got[4] == 0
        torch.testing.assert_close(got[:4], want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["constant", "scheduled", "prior", "rlw", "gradvac", "stch"])
def test_dead_task_gets_nothing_and_others_are_finite(name: str) -> None:
    rows, losses = draw(3)
    losses[2] = NAN
    got = FACTS[name].make().weights(gram_of(rows), losses)
    assert got[2] == 0 and bool(got.isfinite().all())


@pytest.mark.parametrize("name", FACTS)
def test_all_tasks_broken_passes_nan_on(name: str) -> None:
    got = FACTS[name].make().weights(torch.full((4, 4), NAN), torch.full((4,), NAN))
    assert bool(got.isnan().all())


@pytest.mark.parametrize("name", [n for n, f in FACTS.items() if f.make().needs_gram])
def test_all_zero_gradients_give_ones(name: str) -> None:
    got = FACTS[name].make().weights(torch.zeros(4, 4), torch.ones(4))
    assert got.tolist() == [1.0] * 4


@pytest.mark.parametrize("name", [n for n, f in FACTS.items() if f.degree is not None])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1024.0, 1e8])
def test_joint_scale_has_the_rules_degree(name: str, scale: float) -> None:
    rows, losses = draw(5, decades=2)
    fact = FACTS[name]
    base = update(fact.make(), rows, losses)
    moved = update(fact.make(), rows * scale, losses * scale)
    assert fact.degree is not None
    torch.testing.assert_close(
        moved / scale**fact.degree, base, rtol=2e-5, atol=1e-9 * float(base.norm())
    )
    assert cosine(moved, base) > 1 - 1e-8


def per_task_scaled(name: str, seed: int) -> float:
    """Cosine between the update before and after every task got its own scale."""
    rows, losses = draw(seed)
    c = torch.tensor([1.0, 100.0, 1e-2, 7.0], dtype=torch.float64)
    base = update(FACTS[name].make(), rows, losses)
    return cosine(update(FACTS[name].make(), rows * c[:, None], losses * c), base)


@pytest.mark.parametrize("name", [n for n, f in FACTS.items() if f.scale_free])
def test_scale_of_a_task_does_not_turn_scale_free_rules(name: str) -> None:
    assert min(per_task_scaled(name, seed) for seed in range(5)) > 1 - 1e-9


@pytest.mark.parametrize(
    "name", ["equal", "mgda", "pcgrad", "cagrad", "upgrad", "generalized_mean", "aligned"]
)
def test_scale_of_a_task_turns_the_others(name: str) -> None:
    assert min(per_task_scaled(name, seed) for seed in range(5)) < 0.99


ORDERED = (
    "constant",
    "scheduled",
    "prior",
    "rlw",
    "pcgrad",
    "gradvac",
    "primary",
    "primary_greedy",
)


@pytest.mark.parametrize("name", [n for n in FACTS if n not in ORDERED])
def test_order_of_the_tasks_does_not_matter(name: str) -> None:
    rows, losses = draw(7, decades=2)
    order = torch.tensor([2, 0, 3, 1])
    want = update(FACTS[name].make(), rows, losses)
    got = update(FACTS[name].make(), rows[order], losses[order])
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8 * float(want.norm()))


@pytest.mark.parametrize("name", FACTS)
def test_a_resumed_rule_goes_on_as_it_would(name: str) -> None:
    first, second = FACTS[name].make(), FACTS[name].make()
    for step in range(4):
        rows, losses = draw(step)
        first.weights(gram_of(rows), losses)
    state = first.state_dict()
    assert all(isinstance(v, torch.Tensor) for v in state.values())
    second.load_state_dict(state)
    for step in range(4, 8):
        rows, losses = draw(step)
        a, c = (r.weights(gram_of(rows), losses) for r in (first, second))
        assert torch.equal(a, c)
    assert set(first.state_dict()) == set(second.state_dict())


@pytest.mark.parametrize("name", FACTS)
def test_parallel_duplicated_and_single_tasks(name: str) -> None:
    if name in ("constant", "scheduled", "prior"):
        pytest.skip("reads no gradient")
    g = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rule = FACTS[name].make()
    u = update(rule, torch.stack([g, 2 * g, g, 0.5 * g]), torch.ones(4))
    assert cosine(u, g) > 1 - 1e-6
    alone = update(FACTS[name].make(), g[None], torch.ones(1))
    assert cosine(alone, g) > 1 - 1e-9


def test_messages_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"MGDA reads the Gram.*task\.level"):
        b.MGDA().weights(None, torch.ones(2))
    with pytest.raises(ValueError, match="reads the task losses"):
        b.RealTime().weights(torch.eye(2))
    with pytest.raises(ValueError, match=r"gram must be \(T, T\), got shape \(2, 3\)"):
        b.MGDA().weights(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"task 1 has -2.*inverse_grad_norm"):
        b.Geometric().weights(None, torch.tensor([1.0, -2.0]))
    with pytest.raises(ValueError, match="2 entries for 3 tasks"):
        b.Constant([1.0, 2.0]).weights(None, torch.ones(3))
    with pytest.raises(TypeError, match="'step' is int"):
        b.RLW().load_state_dict({"step": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "make",
    [
        lambda: b.MGDA(normalize="norm"),  # type: ignore[arg-type]
        lambda: b.MGDA(iterations=0),
        lambda: b.SmoothMin(temperature=0),
        lambda: b.Primary(main=-1),
        lambda: b.Primary(method="best"),  # type: ignore[arg-type]
        lambda: b.GradNorm(lr=0),
        lambda: b.Uncertainty(lr=-1),
        lambda: b.DWA(window=0),
        lambda: b.IMTLL(lr=0),
        lambda: b.PCGrad(order="x"),  # type: ignore[arg-type]
        lambda: b.GradVac(beta=2),
        lambda: b.CAGrad(c=-1),
        lambda: b.FairGrad(alpha=0),
        lambda: b.STCH(mu=0),
        lambda: b.FAMO(lr=0),
        lambda: b.GradDrop(leak=2),
        lambda: b.EMA(b.MGDA(), decay=1),
        lambda: b.EMA(b.Equal(), of="gram"),
        lambda: b.InverseGradNorm(ema=1),
        lambda: b.GeneralizedMean(float("inf")),
        lambda: b.Initial(steps=0),
        lambda: b.Initial([1.0, 0.0]),
        lambda: b.Prior([0.0, 1.0]),
        lambda: b.Scheduled([1.0], [1.0, 2.0]),
        lambda: b.Constant([float("nan")]),
        lambda: b.TorchJD("NoSuchThing"),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="balancer"):
        make()  # type: ignore[operator]
