"""Sharded parameters (FSDP2) learn the same step size as one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kexue_pl.optim import EGStepSize
from tests.support.ranks import run_ranks

BUSY: dict[str, Any] = {"gain": "coordinate", "scale_lr": 0.05, "gain_lr": 0.02}


def _train(rank: int, world: int, scale: str) -> tuple[Tensor, list[float], Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    if world > 1:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(net, mesh=init_device_mesh("cpu", (world,)))
    adamw = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    attached = EGStepSize(scale=scale, **BUSY).attach(adamw)
    g = torch.Generator().manual_seed(1)
    for _ in range(8):
        x = torch.randn(8, 8, generator=g, dtype=torch.float64)
        mine = x[rank * 8 // world : (rank + 1) * 8 // world]
        adamw.zero_grad()
        (net(mine) - mine[:, :2]).square().mean().backward()
        adamw.step()

    def whole(tensor: Tensor) -> Tensor:
        full = getattr(tensor, "full_tensor", None)
        return (full() if full is not None else tensor).detach().flatten()

    weights = torch.cat([whole(p) for p in net.parameters()])
    gains = torch.cat([whole(adamw.state[p]["eg_log_gain"]) for p in net.parameters()])
    return weights, attached.log_scales(), gains


def _both(rank: int, world: int) -> list[tuple[Tensor, list[float], Tensor]]:
    return [_train(rank, world, scale) for scale in ("global", "tensor")]


@pytest.mark.slow
def test_two_shards_equal_one_process() -> None:
    alone = _both(0, 1)
    for part in run_ranks(_both, 2):
        for (weights, scales, gains), mine in zip(alone, part, strict=True):
            assert torch.allclose(mine[0], weights, rtol=1e-9)
            assert mine[1] == pytest.approx(scales, rel=1e-9)
            assert torch.allclose(mine[2], gains, atol=1e-9)
            assert max(scales) != 0
