"""Any aggregator or weighting of an installed TorchJD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kexue_pl.balancers.base import Balancer


class TorchJD(Balancer):
    r"""Adapter: a TorchJD aggregator or weighting as a rule of this framework.

    Names are those of ``torchjd.aggregation`` (arXiv 2406.16232 and its documentation). Weightings
    and Gram-based aggregators run at both levels; the others need the full matrix. Dead tasks are
    removed before the aggregator sees the matrix.

    Args:
        aggregator: class name, for instance ``"UPGrad"`` or ``"PCDWeighting"``.
        options: its constructor arguments.

    Raises:
        ImportError: TorchJD is not installed.
        ValueError: no such aggregator.

    >>> import torch
    >>> rule = TorchJD("AlignedMTL")
    >>> rule.weights(torch.diag(torch.tensor([1.0, 4.0]))).round(decimals=4).tolist()
    [0.5, 0.25]
    """

    needs_gram = True

    def __init__(
        self, aggregator: str = "UPGrad", options: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        try:
            import torchjd.aggregation as peer
        except ImportError as error:
            raise ImportError(
                "balancer=torchjd needs the package torchjd: pip install torchjd"
            ) from error
        kind = getattr(peer, aggregator, None)
        if not isinstance(kind, type) or not issubclass(kind, torch.nn.Module):
            known = sorted(n for n in peer.__all__ if n[:1].isupper())
            raise ValueError(f"balancer.aggregator={aggregator!r} is none of {', '.join(known)}")
        self.aggregator = aggregator
        self.module = kind(**dict(options or {}))
        inner = getattr(self.module, "gramian_weighting", None)
        self.weighting = self.module if aggregator.endswith("Weighting") else inner
        self.needs_matrix = self.weighting is None
        self.needs_gram = not self.needs_matrix

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """The weighting's answer on the live tasks."""
        if self.weighting is None or gram is None:
            raise ValueError(f"{self.aggregator} needs the full matrix: task.level=parameters")
        out: Tensor = self.weighting(gram)
        return out.double()

    def combine(self, matrix: Tensor, losses: Tensor | None = None) -> Tensor:
        """The aggregator's answer on the finite rows, (T, P) -> (P,)."""
        if not self.needs_matrix:
            return super().combine(matrix, losses)
        rows = matrix[matrix.isfinite().all(1)]
        if len(rows) == 0:
            return torch.full_like(matrix[0], torch.nan)
        out: Tensor = self.module(rows)
        return out
