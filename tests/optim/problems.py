"""A small regression, the optimizers under test and a loop with or without closures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from kexue_pl.optim import EGStepSize

Make = Callable[[Any], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2),
    "nadam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "radam": lambda p: torch.optim.RAdam(p, lr=1e-2),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-3),
    "adamw, tensor lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(1e-2)),
}


def problem(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Callable[[int], Tensor]]:
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 8, generator=g).to(dtype), torch.randn(64, 1, generator=g).to(dtype)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)).to(dtype)

    def loss(step: int) -> Tensor:
        rows = slice(step * 8 % 64, step * 8 % 64 + 8)
        return (net(x[rows]) - y[rows]).square().mean()

    return net, loss


def _backward(optimizer: Optimizer, loss: Callable[[int], Tensor], step: int) -> Tensor:
    optimizer.zero_grad()
    value = loss(step)
    value.backward()
    return value


def train(
    make: Make,
    settings: EGStepSize | None,
    *,
    steps: int = 30,
    closure: bool = False,
    restart_at: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """All parameters after training; with ``restart_at`` everything is rebuilt from state dicts."""
    net, loss = problem(dtype)
    optimizer = make(net.parameters())
    if settings is not None:
        settings.attach(optimizer)
    for step in range(steps):
        if step == restart_at:
            saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
            net, loss = problem(dtype)
            optimizer = make(net.parameters())
            if settings is not None:
                settings.attach(optimizer)
            net.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])

        backward = partial(_backward, optimizer, loss, step)
        if closure:
            optimizer.step(backward)  # type: ignore[arg-type]
        else:
            backward()
            optimizer.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])
