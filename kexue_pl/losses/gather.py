"""Joint batches over ranks with exact gradients, and without a collective in the backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_pl.distributed import all_gather_variable, rank, world_size

__all__ = ["joint", "times_world_size"]


def joint(tensor: Tensor) -> Tensor:
    """Rows of all ranks in rank order; only the rows of this rank carry a gradient.

    The number of rows may differ between ranks; other dimensions and the dtype may not.

    >>> joint(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if world_size() == 1:
        return tensor
    shards = all_gather_variable(tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor)
    shards = [shard.to(tensor.dtype) for shard in shards]
    shards[rank()] = tensor
    return torch.cat(shards)


def times_world_size(loss: Tensor) -> Tensor:
    """The same value with W times the gradient, W being the number of ranks.

    Every rank computes the loss of the joint batch and differentiates it by its own rows. Data
    parallelism then averages over ranks where a sum is due; the factor W makes up for that:
    mean over r of W * dL/d(rows of r) = dL/d(all rows). Apply it to the in-batch term alone.

    >>> float(times_world_size(torch.tensor(0.5)))
    0.5
    """
    return loss if world_size() == 1 else loss.detach() + (loss - loss.detach()) * world_size()
