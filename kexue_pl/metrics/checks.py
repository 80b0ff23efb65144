"""Checks of paired numbers that metrics share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["binary_labels", "paired", "working_dtype"]


def working_dtype(values: Any) -> Tensor:
    """A tensor of floats in float32, or in float64 where it was float64 or integer.

    >>> working_dtype([1, 2]).dtype, working_dtype(torch.zeros(1).bfloat16()).dtype
    (torch.float64, torch.float32)
    """
    tensor = torch.as_tensor(values).detach()
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)


def paired(name: str, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Two (N,) tensors of equal length without NaN, or a ValueError that names the place.

    They are brought to the host: metrics need float64, which not every accelerator has.

    >>> paired("spearman", [0.5, float("nan")], [0, 1])
    Traceback (most recent call last):
    ...
    ValueError: spearman: NaN in row 1 of the first argument
    """
    a, b = torch.as_tensor(x).detach().cpu(), torch.as_tensor(y).detach().cpu()
    if a.ndim != 1 or a.shape != b.shape:
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"{name}: two vectors of one length, got shapes {shapes}")
    for which, tensor in (("first", a), ("second", b)):
        if tensor.is_floating_point() and bool(tensor.isnan().any()):
            row = int(tensor.isnan().nonzero()[0, 0])
            raise ValueError(f"{name}: NaN in row {row} of the {which} argument")
    return a, b


def binary_labels(name: str, labels: Tensor, positive_from: float | None = None) -> Tensor:
    """(N,) bool: positive rows of labels 0/1, or of grades from `positive_from` on.

    >>> binary_labels("best_threshold", torch.tensor([0, 1, 3]))
    Traceback (most recent call last):
    ...
    ValueError: best_threshold: label 3 in row 2; labels must be 0 or 1, for grades say from which
        one
    on a pair is positive (positive_from)
    """
    if positive_from is not None:
        return labels.to(torch.float64) >= positive_from
    positive = labels == 1
    bad = ~(positive | (labels == 0))
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"{name}: label {labels[row].item():g} in row {row}; labels must be 0 or 1, for grades "
            "say from which one on a pair is positive (positive_from)"
        )
    return positive
