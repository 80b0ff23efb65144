"""The parameter level in one process."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kexue_pl import balancers as b
from kexue_pl.gradients import chosen_parameters, fan_out, task_gradients


def setting() -> tuple[nn.Module, nn.ModuleList, Tensor]:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 4)).double()
    heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3)).double()
    return trunk, heads, torch.randn(6, 3, dtype=torch.float64)


def find(chunk: int | None, scale: float = 1.0, broken: int | None = None, **kind: object):  # type: ignore[no-untyped-def]
    trunk, heads, x = setting()
    z = trunk(x)
    fan = fan_out(z, b.Equal(), tasks=3) if chunk else None
    views = fan.views if fan else (z,) * 3
    losses: list[Tensor | None] = [
        h(v).square().mean() * (t + 1) for t, (h, v) in enumerate(zip(heads, views))
    ]
    if broken is not None:
        losses[broken] = None if kind.get("absent") else losses[broken] * float("nan")  # type: ignore[operator]
    return (
        trunk,
        heads,
        task_gradients(
            losses,
            list(trunk.parameters()),
            own=[list(h.parameters()) for h in heads],
            fan=fan,
            chunk=chunk or 1,
            scale=scale,
        ),
    )


@pytest.mark.parametrize("chunk", [None, 1, 2, 3])
def test_every_way_gives_the_rows_of_plain_autograd(chunk: int | None) -> None:
    trunk, heads, found = find(chunk)
    _, _, x = setting()
    for t, head in enumerate(heads):
        trunk.zero_grad()
        (head(trunk(x)).square().mean() * (t + 1)).backward()
        row = torch.cat([p.grad.flatten() for p in trunk.parameters()])
        torch.testing.assert_close(found.matrix[t], row)
    torch.testing.assert_close(found.gram, found.matrix @ found.matrix.T)


@pytest.mark.parametrize("chunk", [None, 1])
def test_equal_weights_write_the_gradient_of_the_sum(chunk: int | None) -> None:
    trunk, heads, found = find(chunk)
    update, weights = found.combine(b.Equal())
    assert weights is not None and weights.tolist() == [1.0] * 3
    found.assign(update)
    got = [p.grad.clone() for p in [*trunk.parameters(), *heads.parameters()]]
    trunk.zero_grad(), heads.zero_grad()
    _, _, x = setting()
    sum(h(trunk(x)).square().mean() * (t + 1) for t, h in enumerate(heads)).backward()  # type: ignore[union-attr]
    for g, p in zip(got, [*trunk.parameters(), *heads.parameters()]):
        torch.testing.assert_close(g, p.grad)


def test_a_scale_multiplies_the_rows_but_not_the_gram() -> None:
    (_, _, one), (_, _, two) = find(1), find(1, scale=1024.0)
    torch.testing.assert_close(two.matrix, one.matrix * 1024)
    torch.testing.assert_close(two.gram, one.gram)
    torch.testing.assert_close(two.losses, one.losses)


@pytest.mark.parametrize("absent", [True, False])
@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_a_broken_task_gets_no_gradient_and_changes_nothing_else(
    absent: bool, chunk: int | None
) -> None:
    trunk, heads, found = find(chunk, broken=1, absent=absent)
    update, weights = found.combine(b.MGDA())
    found.assign(update)
    assert weights is not None and weights[1] == 0
    assert all(p.grad is None for p in heads[1].parameters())
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all())
        for p in [*heads[0].parameters(), *trunk.parameters()]
    )
    rows = found.matrix[[0, 2]]
    torch.testing.assert_close(update, b.MGDA().weights(rows @ rows.T) @ rows)


def test_head_weights_scale_the_heads() -> None:
    _, heads, found = find(1)
    found.assign(found.matrix[0], [0.0, 2.0, 1.0])
    _, again, plain = find(1)
    plain.assign(plain.matrix[0])
    for t, factor in enumerate([0.0, 2.0, 1.0]):
        for p, q in zip(heads[t].parameters(), again[t].parameters()):
            torch.testing.assert_close(p.grad, factor * q.grad)


def test_no_parameters_is_an_error() -> None:
    with pytest.raises(ValueError, match="trainable parameters"):
        task_gradients([torch.tensor(1.0)], [])


def test_in_a_plain_loop_in_under_ten_lines() -> None:
    trunk, heads, x = setting()
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.05)
    first = last = 0.0
    for _step in range(30):
        fan = fan_out(trunk(x), b.MGDA(), tasks=3)
        total = fan.join([h(v).square().mean() for h, v in zip(heads, fan.views)])
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        last = float(total.detach())
        first = first or last
    assert last < 0.5 * first


def test_a_rule_may_read_chosen_parameters_while_its_weights_act_on_all() -> None:
    trunk, heads, x = setting()
    last = chosen_parameters(trunk, ["2"])
    assert [p.shape for p in last] == [(4, 7), (4,)]
    losses = [head(trunk(x)).square().mean() * (t + 1) for t, head in enumerate(heads)]
    everything = list(trunk.parameters())
    found = task_gradients(losses, everything, read=last)
    rows = found.matrix
    part = rows[:, sum(p.numel() for p in everything) - sum(p.numel() for p in last) :]
    torch.testing.assert_close(found.gram, part @ part.T)
    update, weights = found.combine(b.InverseGradNorm())
    assert weights is not None
    torch.testing.assert_close(weights, b.InverseGradNorm().weights(part @ part.T))
    torch.testing.assert_close(update, weights @ rows)
    assert not torch.allclose(weights, b.InverseGradNorm().weights(rows @ rows.T), rtol=1e-3)
    with pytest.raises(ValueError, match="none of the parameters to read"):
        task_gradients([x.sum() * trunk[0].weight.sum()], everything, read=list(heads.parameters()))


def test_a_gradient_that_breaks_where_the_rule_does_not_read_is_left_out() -> None:
    first, last = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with torch.no_grad():
        first.zero_()  # whose root times 0 has the gradient 0 times infinity
    losses = [(first * last).sum(), first.sqrt().sum() * 0 + last.sum()]
    found = task_gradients(losses, [first, last], read=[last])
    assert found.matrix[1].isnan().any() and found.sound.tolist() == [True, False]
    update, weights = found.combine(b.Equal())
    assert weights is not None and weights.tolist()[1] == 0.0
    assert bool(update.isfinite().all())


def test_a_name_that_fits_nothing_is_told() -> None:
    trunk, _, _ = setting()
    assert len(chosen_parameters(trunk)) == 4
    trunk[0].weight.requires_grad_(False)
    assert len(chosen_parameters(trunk, ["0", "2.bias"])) == 2
    with pytest.raises(ValueError, match=r"'layer\*'; there are 0\.bias"):
        chosen_parameters(trunk, ["2", "layer*"])
