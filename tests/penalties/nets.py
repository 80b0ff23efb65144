"""Small float64 networks and losses shared by the penalty tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tokens(nn.Module):
    """Embedding, two affine layers over positions, a head on the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6, padding_idx=0)
        self.norm = nn.LayerNorm(6)
        self.inner, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(self.norm(self.table(ids))))
        return self.head(hidden.mean(1))


def tokens(seed: int = 0) -> tuple[Tokens, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = Tokens().double()
    return net, torch.randint(1, 11, (5, 4)), torch.randint(0, 3, (5,))


def mlp(seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Identity(), nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3)
    ).double()
    return net, torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 3, (5,))


def closure_of(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    return lambda: F.cross_entropy(net(x), y)


def flat_gradient(loss: Tensor, net: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    pairs = zip(found, net.parameters(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
