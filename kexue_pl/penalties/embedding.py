"""Watch or shift the output of the input embedding while a closure runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


def _output(owner: nn.Module, value: Any) -> Tensor:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2:
        raise TypeError(
            f"the output of {type(owner).__name__} is no float tensor of shape (B, ...): penalties "
            "on the input "
            "need an embedding module that returns one"
        )
    return value


@dataclass
class Seen:
    """The outputs of the embedding in call order, and which of their positions are padding.

    Attributes:
        outputs: float tensors (B, ..., H) with ``requires_grad``.
        real: per output a bool tensor (B, ..., 1), false at ``padding_idx``; ``None`` where nothing
            is padding.
    """

    outputs: list[Tensor] = field(default_factory=list)
    real: list[Tensor | None] = field(default_factory=list)

    def gradients(self, loss: Tensor, *, create_graph: bool = False) -> list[Tensor]:
        """``d loss / d outputs``, zero at padding and where the loss does not reach.

        Raises:
            RuntimeError: if the embedding was never called.
        """
        if not self.outputs:
            raise RuntimeError(
                "the loss never called the input embedding: task.embeddings() must return the "
                "module that embeds "
                "the batch; penalty=parameter_gradient and penalty=sam need none"
            )
        found = torch.autograd.grad(
            loss, self.outputs, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
        full = [
            torch.zeros_like(x) if g is None else g
            for g, x in zip(found, self.outputs, strict=True)
        ]
        return [g if real is None else g * real for g, real in zip(full, self.real, strict=True)]

    @property
    def rows(self) -> int:
        """B, the rows of the first embedded batch."""
        return self.outputs[0].shape[0]


@contextmanager
def captured(embeddings: nn.Module) -> Iterator[Seen]:
    """Collect the outputs of ``embeddings``; each one requires grad, even if the module is frozen.

    Example:
        >>> layer = nn.Embedding(4, 2)
        >>> with captured(layer) as seen:
        ...     _ = layer(torch.tensor([[0, 1, 3]]))
        >>> seen.outputs[0].shape, seen.rows
        (torch.Size([1, 3, 2]), 1)
    """
    seen = Seen()
    padding: Any = getattr(embeddings, "padding_idx", None)

    def hook(module: nn.Module, args: Any, value: Any) -> Tensor:
        out = _output(module, value)
        seen.outputs.append(out if out.requires_grad else out.detach().requires_grad_())
        ids = args[0] if args and isinstance(args[0], Tensor) else out
        known = padding is not None and not ids.is_floating_point()
        seen.real.append(torch.ne(ids, padding).unsqueeze(-1) if known else None)
        return seen.outputs[-1]

    handle = embeddings.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def shifted(embeddings: nn.Module, deltas: Sequence[Tensor]) -> Iterator[None]:
    """Add ``deltas[k]`` to the k-th output of ``embeddings`` while the closure runs.

    Raises:
        RuntimeError: if the closure calls the module more often than ``deltas`` has entries, or
            with another shape: the closure must be repeatable.

    Example:
        >>> layer = nn.Identity()
        >>> with shifted(layer, [torch.ones(1, 2)]):
        ...     layer(torch.zeros(1, 2))
        tensor([[1., 1.]])
    """
    calls = 0

    def hook(module: nn.Module, args: Any, value: Any) -> Tensor:
        nonlocal calls
        out = _output(module, value)
        if calls >= len(deltas) or out.shape != deltas[calls].shape:
            raise RuntimeError(
                "the loss embedded its input differently when it was computed again: a penalty "
                "that repeats the "
                "forward needs a repeatable loss (draw random masks in the collator, not in the "
                "loss)"
            )
        calls += 1
        moved: Tensor = out + deltas[calls - 1]
        return moved

    handle = embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def row_norm(value: Tensor) -> Tensor:
    """Euclidean norm of each row (B, ...) kept broadcastable: shape (B, 1, ..., 1).

    Example:
        >>> row_norm(torch.tensor([[3.0, 4.0]]))
        tensor([[5.]])
    """
    flat: Tensor = value.reshape(value.shape[0], -1).norm(dim=1)
    return flat.view(-1, *[1] * (value.dim() - 1))


def steepest(gradients: Sequence[Tensor], length: float) -> list[Tensor]:
    r"""Rows of length ``length`` along each sample's gradient, ``length * g_i / ||g_i||``; a zero
    row stays zero.

    Example:
        >>> steepest([torch.tensor([[3.0, 4.0], [0.0, 0.0]])], 10.0)
        [tensor([[6., 8.],
                [0., 0.]])]
    """
    tiny = [torch.finfo(g.dtype).tiny for g in gradients]
    return [length * g / row_norm(g).clamp_min(t) for g, t in zip(gradients, tiny, strict=True)]
