"""Where the embeddings of an evaluated set lie on the sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.distributed import all_gather_variable, all_reduce_sum
from kexue_pl.metrics import alignment, uniformity

__all__ = ["PairGeometry"]

_ROWS = 2048  # whose texts enter the uniformity, which costs their square


class PairGeometry:
    """Alignment of the positive pairs and uniformity of the texts, over all ranks.

    Args:
        width: H of the embeddings.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.texts: list[Tensor] = []
        self.sums = [0.0, 0.0]

    def add(self, rows: Tensor, left: Tensor, right: Tensor, truth: Tensor | None) -> None:
        """Note a batch.

        Args:
            rows: (B,) row numbers; the texts of the first 2,048 rows enter the uniformity.
            left: (B, H).
            right: (B, H).
            truth: (B,) bool, which pairs are positive; None where labels are grades.
        """
        left, right = left.detach().float(), right.detach().float()
        first = rows < _ROWS
        self.texts += [left[first].cpu(), right[first].cpu()]
        if truth is not None and bool(truth.any()):
            count = float(truth.sum())
            self.sums[0] += float(alignment(left[truth], right[truth])) * count
            self.sums[1] += count

    def join(self, device: torch.device) -> dict[str, float]:
        """``alignment`` (if there were positives) and ``uniformity``; empty again afterwards.

        Every rank must call it.
        """
        local = torch.cat([torch.empty(0, self.width), *self.texts]).to(device)
        texts = torch.cat(all_gather_variable(local)).cpu()
        total, count = all_reduce_sum(torch.tensor(self.sums, device=device)).tolist()
        self.texts, self.sums = [], [0.0, 0.0]
        found = {"alignment": total / count} if count else {}
        if len(texts) > 1:
            found["uniformity"] = float(uniformity(texts))
        return found
