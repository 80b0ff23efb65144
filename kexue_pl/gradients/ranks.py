"""Sums over ranks on a process group of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kexue_pl.distributed import world_size

_groups: dict[str, Any] = {}


def own_group() -> Any:
    """A process group for the Gram alone; None in a single process.

    The Gram is reduced inside a backward pass, where a rank may be ahead of the gradient buckets of
    another: on the default group the two collectives cross, which aborts or mixes values. Made on
    first use, so every rank must reach its first fan-out at the same time.

    >>> own_group() is None
    True
    """
    if world_size() == 1:
        return None
    default = dist.group.WORLD
    if _groups.get("default") is not default:
        _groups.update(default=default, own=dist.new_group())
    return _groups["own"]


def sum_ranks(tensor: Tensor) -> Tensor:
    """Sum over all ranks on the own group, as a new tensor; the identity in a single process.

    >>> import torch
    >>> sum_ranks(torch.tensor([1.0])).tolist()
    [1.0]
    """
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total, group=own_group())
    return total


def average_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Means over all ranks, by one sum for all tensors of a dtype and device.

    >>> average_ranks([torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])])
    [tensor([1., 2.]), tensor([[3.]])]
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for index, tensor in enumerate(tensors):
        kinds.setdefault((tensor.dtype, tensor.device), []).append(index)
    out = list(tensors)
    for members in kinds.values():
        flat = torch.cat([tensors[i].reshape(-1) for i in members])
        sizes = [tensors[i].numel() for i in members]
        parts = torch.split(sum_ranks(flat) / world_size(), sizes)
        for i, part in zip(members, parts):
            out[i] = part.view_as(tensors[i])
    return out


def same_on_ranks(tensor: Tensor) -> Tensor:
    """Rank 0's values on every rank, so that a solver sees identical bits everywhere.

    >>> import torch
    >>> same_on_ranks(torch.tensor([1.0])).tolist()
    [1.0]
    """
    out = tensor.detach().clone()
    if world_size() > 1:
        dist.broadcast(out, src=0, group=own_group())
    return out
