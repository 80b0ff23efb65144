"""Checks of labels, with errors that name the row, the value and the override that mends it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["binary", "check_binary", "check_classes", "check_ordered", "present"]


def present(labels: Tensor | None, loss: str) -> Tensor:
    """`labels`, or a ValueError where there are none.

    >>> present(torch.tensor([1]), "CoSENT")
    tensor([1])
    """
    if labels is None:
        raise ValueError(f"loss {loss} needs a label for each pair; without labels use loss=simcse")
    return labels


def _refuse(labels: Tensor, bad: Tensor, loss: str, accepted: str) -> None:
    """Raise for the first row where `bad` is True."""
    rows = bad.nonzero()
    if len(rows):
        row = int(rows[0, 0])
        value = labels[row].tolist()
        raise ValueError(f"loss {loss}: label {value} in row {row} of the batch; {accepted}")


def check_ordered(labels: Tensor | None, loss: str) -> None:
    """Labels must be there and finite; any ordered values will do.

    >>> check_ordered(torch.tensor([0.0, float("nan")]), "CoSENT")
    Traceback (most recent call last):
    ...
    ValueError: loss CoSENT: label nan in row 1 of the batch; labels must be finite numbers
    """
    labels = present(labels, loss)
    # The sum tells in one step that all are finite; it may also overflow, so look twice.
    if labels.is_floating_point() and not math.isfinite(labels.sum().item()):
        _refuse(labels, ~labels.isfinite(), loss, "labels must be finite numbers")


def check_binary(labels: Tensor | None, loss: str, positive_from: float | None) -> None:
    """Labels must be 0 or 1, or `positive_from` must say from which grade on a pair is positive.

    >>> check_binary(torch.tensor([0, 1, 4]), "Contrastive", None)
    Traceback (most recent call last):
    ...
    ValueError: loss Contrastive: label 4 in row 2 of the batch; labels must be 0 or 1, for graded
    labels set loss.positive_from to the first grade that counts as positive
    """
    check_ordered(labels, loss)
    if positive_from is None:
        labels = present(labels, loss)
        mend = "for graded labels set loss.positive_from to the first grade that counts as positive"
        _refuse(labels, (labels != 0) & (labels != 1), loss, f"labels must be 0 or 1, {mend}")


def check_classes(labels: Tensor | None, loss: str, classes: int) -> None:
    """Labels must be whole numbers 0 .. classes - 1.

    >>> check_classes(torch.tensor([0, 2]), "Softmax", 2)
    Traceback (most recent call last):
    ...
    ValueError: loss Softmax: label 2 in row 1 of the batch; labels must be whole numbers 0..1, set
    loss.classes to the number of label values
    """
    labels = present(labels, loss)
    bad = (labels < 0) | (labels >= classes) | (labels != labels.long())
    mend = "set loss.classes to the number of label values"
    _refuse(labels, bad, loss, f"labels must be whole numbers 0..{classes - 1}, {mend}")


def binary(labels: Tensor, positive_from: float | None) -> Tensor:
    """(B,) bool: which pairs are positive.

    >>> binary(torch.tensor([0, 3, 5]), 3).tolist()
    [False, True, True]
    """
    return labels.to(torch.float64) >= positive_from if positive_from is not None else labels > 0
