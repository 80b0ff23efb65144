"""Inner products of task gradients without loss of precision."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 14
"""Columns widened at once on a processor: few calls, a buffer that stays in its cache."""


def gram_matrix(rows: Tensor, *, chunk: int | None = None) -> Tensor:
    r"""Gram matrix :math:`G_{ij} = \langle g_i, g_j\rangle` summed in float64.

    Columns are widened ``chunk`` at a time: one float32 product over 0.8 million columns is off by
    7e-4, and widening everything would double the memory.

    Args:
        rows: (T, ...) task gradients; trailing dimensions are flattened (Frobenius).
        chunk: columns widened at once, >= 1; None: 16384, on accelerators 65536.

    Returns:
        (T, T) float64 on the device of ``rows`` (on the CPU where it has no float64).

    >>> gram_matrix(torch.tensor([[1.0, 2.0], [0.0, 3.0]])).tolist()
    [[5.0, 6.0], [6.0, 9.0]]
    """
    flat = rows.detach().flatten(1)
    if flat.device.type == "mps":
        flat = flat.cpu()
    if flat.dtype == torch.float64 and chunk is None:
        return flat @ flat.T
    tasks, columns = flat.shape
    if chunk is None:
        chunk = CHUNK if flat.device.type == "cpu" else 1 << 16
    out = torch.zeros(tasks, tasks, dtype=torch.float64, device=flat.device)
    wide = torch.empty(tasks, min(chunk, columns), dtype=torch.float64, device=flat.device)
    for start in range(0, columns, chunk):
        part = wide[:, : min(chunk, columns - start)]
        part.copy_(flat[:, start : start + chunk])
        out.addmm_(part, part.T)
    return out
