"""Mean attention entropy of every layer and head while a model runs."""

from __future__ import annotations

import math
from types import TracebackType

import torch
from torch import Tensor, nn

from kexue_pl.attention.entropy import attention_entropy, valid_rows
from kexue_pl.attention.function import Call, ScaledAttention


class EntropyProbe:
    """Collects attention entropies of all calls inside a ``with`` block.

    Padded query rows are left out. Memory is one number a layer and head; rows are never kept.

    Args:
        function: what :func:`kexue_pl.attention.register`, ``install`` or ``attach`` returned.

    Use::

        probe = EntropyProbe(function)
        with probe, torch.no_grad():
            model(input_ids, attention_mask)
        probe.mean()
    """

    def __init__(self, function: ScaledAttention) -> None:
        self.function = function
        self._sums: dict[nn.Module, Tensor] = {}
        self._rows: dict[nn.Module, Tensor] = {}

    def __enter__(self) -> EntropyProbe:
        self.function.observers.append(self._observe)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.function.observers.remove(self._observe)

    def _observe(self, call: Call) -> None:
        rows = attention_entropy(call)
        valid = valid_rows(call).expand(rows.shape)
        sums = torch.where(valid, rows, 0.0).sum((0, 2), dtype=torch.float64)
        counts = valid.sum((0, 2), dtype=torch.float64)
        self._sums[call.module] = self._sums.get(call.module, torch.zeros_like(sums)) + sums
        self._rows[call.module] = self._rows.get(call.module, torch.zeros_like(counts)) + counts

    def totals(self) -> tuple[Tensor, Tensor]:
        """Sums of entropies and counts of rows, each (layers, heads) float64, to add over ranks.

        Raises:
            RuntimeError: if no call was seen.
        """
        if not self._sums:
            raise RuntimeError(
                f"EntropyProbe saw no call of {self.function.name!r}; run the model in its block"
            )
        return torch.stack(list(self._sums.values())), torch.stack(list(self._rows.values()))

    def mean(self) -> Tensor:
        """Mean entropy in nats, (layers, heads), layers in the order of their calls."""
        sums, rows = self.totals()
        return sums / rows.clamp_min(1)


def log_slope(lengths: list[int], entropies: list[float]) -> float:
    """Least squares slope of entropy (nats) in log n: 1 for uniform attention, 0 for invariance.

    Raises:
        ValueError: for fewer than two different lengths.

    >>> round(log_slope([64, 256, 1024], [math.log(64), math.log(256), math.log(1024)]), 6)
    1.0
    """
    if len(set(lengths)) < 2:
        raise ValueError(f"log_slope: lengths={lengths} must hold at least two different lengths")
    logs = [math.log(n) for n in lengths]
    centre = sum(logs) / len(logs)
    middle = sum(entropies) / len(entropies)
    top = sum((x - centre) * (y - middle) for x, y in zip(logs, entropies, strict=True))
    return top / sum((x - centre) ** 2 for x in logs)
