"""Rules of the field: defining equations, values by hand, published behaviour."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl import balancers as b
from kexue_pl.balancers.cagrad import worst_mixture
from tests.balancers.rules import cosine, draw, gram_of


@given(st.integers(0, 10**6), st.floats(0, 6))
@settings(max_examples=40, deadline=None)
def test_nash_solves_its_equation(seed: int, decades: float) -> None:
    rows, _ = draw(seed, 4, 12, decades)
    gram = gram_of(rows)
    a = b.Nash().weights(gram)
    assert bool((a > 0).all())
    torch.testing.assert_close(a * (gram @ a), torch.ones(4).double(), rtol=1e-6, atol=1e-6)


def test_nash_has_the_direction_of_the_reciprocal_norm_for_two_tasks_and_length_root_t() -> None:
    for seed in range(20):
        rows, _ = draw(seed, 2, 6, 3)
        u = b.Nash().weights(gram_of(rows)) @ rows
        assert cosine(u, b.InverseGradNorm().weights(gram_of(rows)) @ rows) > 1 - 1e-9
        assert float(u.norm()) == pytest.approx(2**0.5, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 5.0])
def test_fairgrad_solves_its_equation(alpha: float) -> None:
    for seed in range(10):
        gram = gram_of(draw(seed, 4, 12, 2)[0])
        a = b.FairGrad(alpha=alpha).weights(gram)
        torch.testing.assert_close(
            gram @ a * a ** (1 / alpha), torch.ones(4).double(), rtol=1e-5, atol=1e-6
        )


def test_opposite_gradients_have_no_bargain() -> None:
    g = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for rule in (b.Nash(), b.FairGrad(), b.IMTLG(), b.ConFIG()):
        assert rule.weights(gram_of(torch.stack([g, -2 * g]))).tolist() == [0.0, 0.0]


@given(st.integers(0, 10**6), st.integers(2, 5))
@settings(max_examples=25, deadline=None)
def test_cagrad_dual_beats_every_other_mixture(seed: int, tasks: int) -> None:
    gram = gram_of(draw(seed, tasks, 10, 2)[0])
    mean = torch.full((tasks,), 1 / tasks, dtype=torch.float64)
    root = 0.5 * float((mean @ gram @ mean).sqrt())

    def dual(w: torch.Tensor) -> float:
        return float(w @ gram @ mean + root * (w @ gram @ w).clamp(min=0).sqrt())

    best = dual(worst_mixture(gram, mean, root))
    g = torch.Generator().manual_seed(seed)
    others = torch.distributions.Dirichlet(torch.full((tasks,), 0.3)).sample((200,)).double()
    others = torch.cat(
        [others, torch.eye(tasks).double(), torch.rand(3, tasks, generator=g).double()]
    )
    others = others / others.sum(1, keepdim=True)
    assert best <= min(dual(w) for w in others) + 1e-9 * abs(best) + 1e-12


def test_cagrad_stays_in_its_ball_and_improves_the_worst() -> None:
    for seed in range(20):
        rows, _ = draw(seed, 4, 10, 1)
        u = b.CAGrad(c=0.5).weights(gram_of(rows)) @ rows
        mean = rows.mean(0)
        assert float((u - mean).norm()) == pytest.approx(0.5 * float(mean.norm()), rel=1e-6)
        assert float((rows @ u).min()) >= float((rows @ mean).min()) - 1e-9


def test_imtl_g_projects_equally_and_never_climbs() -> None:
    climbs = 0
    for seed in range(200):
        rows, _ = draw(seed, 8, 30, 2)
        units = rows / rows.norm(dim=1, keepdim=True)
        u = b.IMTLG().weights(gram_of(rows)) @ rows
        along = units @ u / u.norm()
        assert float(along.min()) > 0
        assert float(along.max() - along.min()) < 1e-6
        climbs += float((units @ (b.IMTLG(published=True).weights(gram_of(rows)) @ rows)).min()) < 0
    assert climbs > 0


def test_gradnorm_equalises_the_weighted_norms() -> None:
    rule = b.GradNorm(alpha=0.0, lr=0.01)
    gram = torch.diag(torch.tensor([1.0, 16.0, 4.0]))
    for _ in range(1000):
        w = rule.weights(gram, torch.ones(3))
    norms = w * gram.diagonal().sqrt()
    assert float(norms.max() / norms.min()) < 1.15
    assert float(w.sum()) == pytest.approx(3.0)


def test_gradnorm_pulls_on_the_slow_task() -> None:
    rule = b.GradNorm(alpha=1.0, lr=0.01)
    rule.weights(torch.eye(2), torch.tensor([1.0, 1.0]))
    for _ in range(500):
        w = rule.weights(torch.eye(2), torch.tensor([0.9, 0.3]))
    assert float(w[0] / w[1]) == pytest.approx(3.0, rel=0.1)


def test_uncertainty_and_imtl_l_tend_to_the_reciprocal_loss() -> None:
    losses = torch.tensor([0.5, 4.0])
    for rule, factor in ((b.Uncertainty(lr=0.02), 0.5), (b.IMTLL(lr=0.02), 1.0)):
        for _ in range(800):
            w = rule.weights(None, losses)
        torch.testing.assert_close(w, factor / losses.double(), rtol=2e-2, atol=0)


def test_famo_shifts_weight_to_the_task_that_falls_slowly() -> None:
    rule = b.FAMO(lr=0.05, decay=0.0)
    for k in range(50):
        w = rule.weights(None, torch.tensor([1.0, 0.98**k]))
    share = w * torch.tensor([1.0, 0.98**49])
    assert float(share[0] / share.sum()) > 0.9


def test_dwa_waits_for_two_windows() -> None:
    rule = b.DWA(window=2, temperature=1.0)
    seen = [
        rule.weights(None, torch.tensor(x)).tolist() for x in ([1.0, 1.0],) * 2 + ([1.0, 0.5],) * 2
    ]
    assert seen == [[1.0, 1.0]] * 4
    late = rule.weights(None, torch.ones(2))
    torch.testing.assert_close(late, 2 * torch.softmax(torch.tensor([1.0, 0.5]).double(), 0))


def test_pcgrad_equals_its_definition_on_vectors() -> None:
    rows, _ = draw(11, 3, 4)
    want = torch.zeros(4, dtype=torch.float64)
    for i in range(3):
        g = rows[i].clone()
        for j in (j for j in range(3) if j != i):
            g = g - min(float(g @ rows[j]), 0.0) / float(rows[j] @ rows[j]) * rows[j]
        want += g
    torch.testing.assert_close(b.PCGrad(order="fixed").weights(gram_of(rows)) @ rows, want)


def test_gradvac_raises_a_cosine_to_its_target() -> None:
    rule = b.GradVac(beta=0.5)
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    rule.weights(gram_of(rows))
    assert rule.state_dict()["cosines"][0, 1] == pytest.approx(0.4)
    other = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    row = torch.tensor([1.0, 0.0], dtype=torch.float64)
    rule._raise(row, gram_of(other), 1, 0.4)
    assert cosine(row @ other, other[1]) == pytest.approx(0.4)


def test_random_rules_agree_between_instances_and_change_with_steps() -> None:
    rows, losses = draw(0)
    for make in (b.RLW, b.PCGrad, b.GradVac):
        one, two = make(), make()
        a, c = one.weights(gram_of(rows), losses), two.weights(gram_of(rows), losses)
        assert torch.equal(a, c)
    rule = b.RLW()
    assert not torch.equal(rule.weights(None, losses), rule.weights(None, losses))


def test_graddrop_keeps_one_sign_and_its_mean() -> None:
    rows = torch.tensor([[3.0] * 20000, [-1.0] * 20000])
    out = b.GradDrop(seed=3).combine(rows)
    assert set(out.unique().tolist()) == {-1.0, 3.0}
    assert float((out > 0).float().mean()) == pytest.approx(0.75, abs=0.02)
    assert b.GradDrop(leak=1.0).combine(rows)[0] == 2.0
    with pytest.raises(ValueError, match="level=parameters"):
        b.GradDrop().weights(None, torch.ones(2))
    broken = torch.cat([rows, torch.full((1, 20000), float("nan"))])
    assert torch.equal(b.GradDrop(seed=3).combine(broken), out)


def test_ema_of_weights_starts_at_the_first_and_moves_by_its_decay() -> None:
    rule = b.EMA(b.InverseGradNorm(), decay=0.9)
    got = [rule.weights(torch.eye(1) * s).item() for s in (1.0, 4.0, 4.0)]
    assert got == pytest.approx([1.0, 0.95, 0.905])
    gram = b.EMA(b.InverseGradNorm(), decay=0.5, of="gram")
    assert gram.weights(torch.eye(1) * 4).item() == pytest.approx(0.5)
    assert gram.weights(torch.eye(1) * 16).item() == pytest.approx((0.75 / (4 * 0.25 + 8)) ** 0.5)


def test_combine_is_the_weighted_sum_without_broken_rows() -> None:
    rows, _ = draw(1)
    rows = rows.float()
    want = b.MGDA().weights(gram_of(rows)).float() @ rows
    torch.testing.assert_close(b.MGDA().combine(rows), want)
    more = torch.cat([rows, torch.full((1, 12), float("nan"))])
    torch.testing.assert_close(b.MGDA().combine(more), want)
