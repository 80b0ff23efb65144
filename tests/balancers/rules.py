"""Every rule with the facts that its tests need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kexue_pl import balancers as b


@dataclass(frozen=True)
class Fact:
    """A rule, the degree k of its update (u(sJ, sL) = s^k u(J, L); None where it has none), and
    whether its direction is free of each task's own scale."""

    make: Callable[[], b.Balancer]
    degree: float | None = 1.0
    scale_free: bool = False


FACTS = {
    "equal": Fact(b.Equal),
    "constant": Fact(lambda: b.Constant([1.0, 0.5, 2.0, 0.1])),
    "scheduled": Fact(lambda: b.Scheduled([1.0] * 4, [0.0, 1, 2, 3], steps=3)),
    "initial": Fact(b.Initial, 0.0, True),
    "prior": Fact(lambda: b.Prior([1.0, 2.0, 0.5, 1.5])),
    "realtime": Fact(b.RealTime, 0.0, True),
    "geometric": Fact(b.Geometric, 1.0, True),
    "generalized_mean": Fact(lambda: b.GeneralizedMean(0.5)),
    "inverse_grad_norm": Fact(b.InverseGradNorm, 0.0, True),
    "inverse_grad_norm_ema": Fact(lambda: b.InverseGradNorm(ema=0.9), 0.0, True),
    "mgda": Fact(b.MGDA),
    "mgda_normalized": Fact(lambda: b.MGDA(normalize="gradient"), 0.0, True),
    "mgda_loss": Fact(lambda: b.MGDA(normalize="loss"), 0.0, True),
    "mgda_frank_wolfe": Fact(lambda: b.MGDA(solver="frank_wolfe")),
    "smooth_min": Fact(b.SmoothMin),
    "primary": Fact(b.Primary),
    "primary_greedy": Fact(lambda: b.Primary(method="greedy", rounds=10000)),
    "gradnorm": Fact(b.GradNorm),
    "uncertainty": Fact(b.Uncertainty, None),
    "dwa": Fact(lambda: b.DWA(window=1)),
    "rlw": Fact(b.RLW),
    "imtl_l": Fact(b.IMTLL, None),
    "imtl_g": Fact(b.IMTLG, 1.0, True),
    "pcgrad": Fact(lambda: b.PCGrad(order="fixed")),
    "gradvac": Fact(b.GradVac),
    "cagrad": Fact(b.CAGrad),
    "nash": Fact(b.Nash, 0.0, True),
    "aligned": Fact(b.Aligned),
    "fairgrad": Fact(b.FairGrad, -1 / 3),
    "stch": Fact(b.STCH, None),
    "famo": Fact(b.FAMO),
    "db_mtl": Fact(b.DBMTL, 0.0, True),
    "upgrad": Fact(b.UPGrad),
    "dualproj": Fact(b.DualProj),
    "config": Fact(b.ConFIG),
    "ema": Fact(lambda: b.EMA(b.MGDA(), decay=0.5)),
    "ema_gram": Fact(lambda: b.EMA(b.MGDA(), decay=0.5, of="gram")),
    "torchjd": Fact(lambda: b.TorchJD("IMTLG")),
}


def draw(seed: int, tasks: int = 4, size: int = 12, decades: float = 0.0) -> tuple[Tensor, Tensor]:
    """Random gradients (T, size) with norms spread over ``decades``, and positive losses (T,)."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, size, generator=g, dtype=torch.float64)
    spread = torch.rand(tasks, 1, generator=g, dtype=torch.float64) - 0.5
    common = torch.randn(size, generator=g, dtype=torch.float64) * torch.rand(1, generator=g)
    losses = 0.1 + 3 * torch.rand(tasks, generator=g, dtype=torch.float64)
    return rows * 10 ** (decades * spread) + common, losses


def gram_of(rows: Tensor) -> Tensor:
    """Gram in float64."""
    wide = rows.double()
    return wide @ wide.T


def cosine(a: Tensor, c: Tensor) -> float:
    """Cosine of two vectors."""
    return float(a @ c / (a.norm() * c.norm()))


def update(rule: b.Balancer, rows: Tensor, losses: Tensor) -> Tensor:
    """The combined gradient of one call."""
    return rule.weights(gram_of(rows), losses) @ rows.double().nan_to_num()
