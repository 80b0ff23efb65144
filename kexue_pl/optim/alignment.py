"""Inner products between gradients and directions, for whole or sharded tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from kexue_pl.optim.kernels import fits, fused_sums


class Sums(NamedTuple):
    """``<g, d>``, ``|g|^2`` and ``|d|^2`` of one tensor or of several together."""

    dot: float
    gradient: float
    direction: float

    @property
    def finite(self) -> bool:
        """Whether all three are finite: a NaN or an overflow anywhere shows here."""
        return all(math.isfinite(v) for v in self)

    @property
    def cosine(self) -> float:
        """Cosine of the angle; 0 where a side is zero or anything is not finite.

        Example:
            >>> Sums(6.0, 4.0, 9.0).cosine, Sums(0.0, 0.0, 9.0).cosine
            (1.0, 0.0)
        """
        # Two roots: the product of two small squares may underflow.
        length = math.sqrt(self.gradient) * math.sqrt(self.direction) if self.finite else 0.0
        return max(-1.0, min(1.0, self.dot / length)) if length > 0 else 0.0

    @property
    def sign(self) -> float:
        """Sign of the inner product: -1, 0 or 1."""
        return float((self.dot > 0) - (self.dot < 0)) if self.finite else 0.0


def total(parts: Sequence[Sums]) -> Sums:
    """Sums of several tensors taken as one vector.

    Example:
        >>> total([Sums(1.0, 2.0, 3.0), Sums(1.0, 1.0, 1.0)])
        Sums(dot=2.0, gradient=3.0, direction=4.0)
    """
    if not all(part.finite for part in parts):
        return Sums(math.nan, math.nan, math.nan)
    return Sums(
        math.fsum(part.dot for part in parts),
        math.fsum(part.gradient for part in parts),
        math.fsum(part.direction for part in parts),
    )


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor (DTensor) that lives on this rank; any other tensor itself.

    Example:
        >>> local(torch.ones(2))
        tensor([1., 1.])
    """
    to_local = getattr(tensor, "to_local", None)
    return to_local() if to_local is not None else tensor


def _product(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype in (torch.bfloat16, torch.float16) or b.dtype in (torch.bfloat16, torch.float16):
        a, b = a.float(), b.float()
    if a.is_contiguous() and b.is_contiguous():
        return torch.dot(a.view(-1), b.view(-1))
    return (a * b).sum()


def measure(pairs: Sequence[tuple[Tensor, Tensor]], *, fused: bool = False) -> list[Sums]:
    """``Sums`` of every (gradient, direction) pair, with one transfer from the device.

    Shards of a tensor are summed over the ranks that hold them: three numbers a tensor travel.

    Args:
        pairs: of equally shaped tensors.
        fused: one pass over memory, where the kernels know all tensors.

    Example:
        >>> measure([(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]))])
        [Sums(dot=3.0, gradient=5.0, direction=9.0)]
    """
    if not pairs:
        return []
    local_pairs = [(local(g), local(d)) for g, d in pairs]
    if fused and fits(*(t for pair in local_pairs for t in pair)):
        table = torch.tensor(fused_sums(local_pairs), dtype=torch.float64)
    else:
        table = _table(local_pairs)
    _reduce_shards(table, [g for g, _ in pairs])
    return [Sums(*row) for row in table.tolist()]


def _table(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    flat = [v for g, d in pairs for v in (_product(g, d), _product(g, g), _product(d, d))]
    if len({v.device for v in flat}) > 1 or len({v.dtype for v in flat}) > 1:
        flat = [v.to(flat[0].device, torch.float64) for v in flat]
    return torch.stack(flat).double().view(-1, 3)


def _reduce_shards(table: Tensor, gradients: Sequence[Tensor]) -> None:
    """Add up the rows of sharded tensors over the mesh dimensions that shard them, in place."""
    groups: dict[dist.ProcessGroup, list[int]] = {}
    for row, gradient in enumerate(gradients):
        mesh = getattr(gradient, "device_mesh", None)
        for dimension, placement in enumerate(getattr(gradient, "placements", ())):
            if mesh is not None and placement.is_shard():
                groups.setdefault(mesh.get_group(dimension), []).append(row)
    for group, members in groups.items():
        part = table[members].contiguous()
        dist.all_reduce(part, group=group)
        table[members] = part
