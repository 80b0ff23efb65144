"""How a loss tells a penalty what the network predicted: one call, free when nobody listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_LISTENER: ContextVar[list[Tensor] | None] = ContextVar("kexue_pl_outputs", default=None)


def listening() -> bool:
    """True while a penalty waits for ``record_output``: what is costly may be left out otherwise.

    Example:
        >>> listening()
        False
    """
    return _LISTENER.get() is not None


def record_output(output: Tensor, real: Tensor | None = None) -> Tensor:
    """Hand the prediction (logits, scores) inside a loss to a penalty that listens; returns it
    unchanged.

    Args:
        output: (..., C) logits of one distribution a row, or scores of any shape.
        real: bool, the rows that are no padding, of the leading shape; None takes all.

    Example:
        >>> import torch
        >>> with recorded_outputs() as outputs:
        ...     _ = record_output(torch.zeros(2, 3))
        >>> outputs[0].shape
        torch.Size([2, 3])
    """
    listener = _LISTENER.get()
    if listener is not None:
        listener.append(output if real is None else output[real])
    return output


@contextmanager
def recorded_outputs() -> Iterator[list[Tensor]]:
    """Collect what ``record_output`` is given inside the block."""
    outputs: list[Tensor] = []
    token = _LISTENER.set(outputs)
    try:
        yield outputs
    finally:
        _LISTENER.reset(token)
