"""Inner products of task gradients without loss of precision."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 1 << 12
"""Columns widened at once on a processor: few calls, a buffer that stays in its cache."""


def gram_matrix(rows: Tensor, *, chunk: int | None = None) -> Tensor:
    r"""Gram matrix :math:`G_{ij} = \langle g_i, g_j\rangle` summed in float64.

    Columns are widened ``chunk`` at a time: one float32 product over 0.8 million columns is off by
    7e-4, and widening everything would double the memory.

    Args:
        rows: (T, ...) task gradients; trailing dimensions are flattened (Frobenius).
        chunk: columns widened at once, >= 1; None: 4096, on accelerators 65536.

    Returns:
        (T, T) float64 on the device of ``rows`` (on the CPU where it has no float64).

    >>> gram_matrix(torch.tensor([[1.0, 2.0], [0.0, 3.0]])).tolist()
    [[5.0, 6.0], [6.0, 9.0]]
    """
    return gram_of_parts([[row] for row in rows], chunk=chunk)


def gram_of_parts(rows: Sequence[Sequence[Tensor]], *, chunk: int | None = None) -> Tensor:
    """The same of gradients that lie in pieces, one list of tensors a task; nothing is joined.

    >>> one, two = [torch.tensor([1.0]), torch.tensor([[2.0]])], [torch.zeros(1), torch.ones(1, 1)]
    >>> gram_of_parts([one, two]).tolist()
    [[5.0, 2.0], [2.0, 1.0]]
    """
    first = rows[0][0]
    device = torch.device("cpu") if first.device.type == "mps" else first.device
    if chunk is None:
        chunk = CHUNK if device.type == "cpu" else 16 * CHUNK
    total = sum(part.numel() for part in rows[0])
    wide = _workspace(len(rows), min(chunk, total), device)
    out = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=device)
    filled = 0
    for parts in zip(*rows):
        flat = [part.detach().reshape(-1) for part in parts]
        start, size = 0, flat[0].numel()
        while start < size:
            count = min(size - start, chunk - filled)
            lines = wide[:, filled : filled + count].unbind(0)
            torch._foreach_copy_(lines, [part[start : start + count] for part in flat])
            start, filled = start + count, filled + count
            if filled == chunk:
                out.addmm_(wide, wide.T)
                filled = 0
    if filled:
        out.addmm_(wide[:, :filled], wide[:, :filled].T)
    return out


_kept = threading.local()


def _workspace(tasks: int, columns: int, device: torch.device) -> Tensor:
    """An uninitialised float64 matrix, kept from call to call: fresh memory costs more than the sums."""
    key = (tasks, columns, device)
    if getattr(_kept, "key", None) != key:
        _kept.key, _kept.wide = key, torch.empty(key[:2], dtype=torch.float64, device=device)
    wide: Tensor = _kept.wide
    return wide
