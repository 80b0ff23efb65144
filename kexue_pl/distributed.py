"""Collectives that also work in a single process, where they are the identity."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "all_gather_objects",
    "all_gather_variable",
    "all_reduce_sum",
    "broadcast_object",
    "rank",
    "world_size",
]

T = TypeVar("T")


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Rank of this process in the default group; 0 where there is none."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """Number of processes in the default group; 1 where there is none."""
    return dist.get_world_size() if _active() else 1


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Sum of `tensor` over all ranks, as a new tensor of the same shape (no autograd).

    >>> all_reduce_sum(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def all_gather_variable(tensor: Tensor) -> list[Tensor]:
    """The tensors of all ranks in rank order (no autograd); first dimensions may differ.

    Shards are padded to the longest, gathered and cut again. All other dimensions and the dtype
    must agree between ranks.

    >>> all_gather_variable(torch.tensor([3]))
    [tensor([3])]
    """
    if world_size() == 1:
        return [tensor.detach()]
    local = torch.tensor([tensor.shape[0]], device=tensor.device)
    sizes = [torch.zeros_like(local) for _ in range(world_size())]
    dist.all_gather(sizes, local)
    lengths = [int(size) for size in sizes]
    padded = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
    padded[: tensor.shape[0]] = tensor.detach()
    shards = [torch.empty_like(padded) for _ in lengths]
    dist.all_gather(shards, padded)
    return [shard[:length] for shard, length in zip(shards, lengths)]


def all_gather_objects(value: T) -> list[T]:
    """The picklable objects of all ranks in rank order.

    >>> all_gather_objects({"loss": 1})
    [{'loss': 1}]
    """
    if world_size() == 1:
        return [value]
    values: list[T | None] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def broadcast_object(value: T) -> T:
    """The object of rank 0, on every rank.

    >>> broadcast_object("same everywhere")
    'same everywhere'
    """
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
