from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from kexue_pl.penalties import per_sample_square_norms, recorded_calls
from tests.penalties.nets import Tokens, mlp, tokens


def _by_vmap(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    values = {name: p.detach() for name, p in net.named_parameters()}

    def one(weights: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(net, weights, (row[None],)), label[None])

    found = vmap(grad(one), in_dims=(None, 0, 0))(values, x, y)
    return sum((g.flatten(1).square().sum(1) for g in found.values()), torch.zeros(len(y)).to(x))


def _closed(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    parameters = list(net.parameters())
    with recorded_calls(parameters) as calls:
        loss = F.cross_entropy(net(x), y, reduction="sum")
    return per_sample_square_norms(loss, calls, parameters)


@pytest.mark.parametrize("seed", range(3))
def test_equals_vmap_of_grad(seed: int) -> None:
    net, x, y = mlp(seed)
    assert torch.allclose(_closed(net, x, y), _by_vmap(net, x, y), rtol=1e-10)


@pytest.mark.parametrize("positions", [4, 40])
def test_shared_positions_embedding_and_layer_norm(positions: int) -> None:
    net, _, y = tokens()
    ids = torch.randint(0, 11, (5, positions))  # repeated tokens and padding; both cost branches
    real = _closed(net, ids, y)
    reference = torch.zeros(5, dtype=torch.float64)
    for row in range(5):
        loss = F.cross_entropy(net(ids[row : row + 1]), y[row : row + 1])
        found = torch.autograd.grad(loss, list(net.parameters()))
        reference[row] = sum(float(g.square().sum()) for g in found)
    assert torch.allclose(real, reference, rtol=1e-10)


def test_the_hook_is_gone_afterwards() -> None:
    net, x, _ = mlp()
    with recorded_calls(list(net.parameters())) as calls:
        net(x)
    known = len(calls)
    net(x)
    assert len(calls) == known == 3


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class _InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).relu_()


@pytest.mark.parametrize(("net", "reason"), [(_Twice(), "used twice"), (_InPlace(), "in place")])
def test_refuses_what_it_cannot_compute(net: nn.Module, reason: str) -> None:
    with pytest.raises(RuntimeError, match=reason):
        _closed(net, torch.randn(3, 4), torch.tensor([0, 1, 2]))


def test_refuses_rows_that_are_no_samples() -> None:
    net = Tokens()

    def pooled(ids: Tensor) -> Tensor:
        return net.head(torch.tanh(net.inner(net.norm(net.table(ids)))).mean(1)[:2])

    with recorded_calls(list(net.parameters())) as calls:
        loss = pooled(torch.randint(0, 11, (3, 4))).sum()
    with pytest.raises(RuntimeError, match="rows must be samples"):
        per_sample_square_norms(loss, calls, list(net.parameters()))
