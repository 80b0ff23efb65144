"""Platt's scaling: from scores to probabilities, with two numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kexue_pl.metrics.checks import binary_labels, paired

__all__ = ["platt", "platt_probabilities"]

_STEPS = 50


def platt(scores: Any, labels: Any) -> Tensor:
    """(2,) float64 slope a and offset b for which sigmoid(a s + b) fits 0/1 labels best.

        max over a, b of sum_k t_k log p_k + (1 - t_k) log(1 - p_k),   p_k = 1 / (1 + e^{-(a s_k + b)})
        t_k = (P + 1) / (P + 2) for the P positives, 1 / (N + 2) for the N negatives

    The smoothed targets keep both numbers finite where scores separate the labels. Newton's method on
    standardised scores; constant scores get a = 0.

    Source: Platt 1999; Lin, Lin and Weng, doi 10.1007/s10994-007-5018-6.

    Args:
        scores: s (N,), finite. labels: (N,) 0/1.

    >>> a, b = platt([0.0, 1.0], [0, 1]).tolist()  # targets 1/3 and 2/3, so logits -log 2 and log 2
    >>> round(b, 4), round(a + b, 4)
    (-0.6931, 0.6931)
    """
    s, y = paired("platt", scores, labels)
    s = s.double()
    truth = binary_labels("platt", y).double()
    positives = truth.sum()
    negatives = len(truth) - positives
    target = torch.where(truth > 0, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    spread = s.std(correction=0)
    if not len(s) or float(spread) == 0:
        odds = (positives + 1) / (negatives + 1)
        return torch.stack([torch.zeros_like(odds), odds.log()])
    x = torch.stack([(s - s.mean()) / spread, torch.ones_like(s)], 1)
    w = torch.zeros(2, dtype=torch.float64)
    value = _loss(w, x, target)
    for _ in range(_STEPS):
        p = torch.sigmoid(x @ w)
        gradient = x.T @ (p - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-12 * torch.eye(2, dtype=torch.float64)
        step = torch.linalg.solve(hessian, gradient)
        while True:
            new = _loss(w - step, x, target)
            if new <= value or float(step.abs().max()) < 1e-12:
                break
            step = step / 2
        w, value = w - step, new
        if float(step.abs().max()) < 1e-10:
            break
    return torch.stack([w[0] / spread, w[1] - w[0] * s.mean() / spread])


def _loss(w: Tensor, x: Tensor, target: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(x @ w, target, reduction="sum")


def platt_probabilities(scores: Tensor, fitted: Tensor) -> Tensor:
    """(N,) float64 probabilities of a match for scores (N,) and the two numbers of `platt`.

    >>> platt_probabilities(torch.tensor([0.0]), torch.tensor([3.0, 0.0])).tolist()
    [0.5]
    """
    slope, offset = fitted.double().to(scores.device)
    return torch.sigmoid(slope * scores.double() + offset)
