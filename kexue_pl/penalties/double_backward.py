"""What a gradient of a gradient needs: a kernel that has one, no compiled or static graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn.attention import SDPBackend, sdpa_kernel

_REMEDIES = (
    "use penalty.method=finite_difference (no gradient of a gradient), a penalty without one (fgm, "
    "pgd, sam, "
    "flooding), or {other}"
)
_REFUSED = {
    "CompiledFunction": ("torch.compile", "train without torch.compile"),
    "_DDPSink": ("DistributedDataParallel(static_graph=True)", "static_graph=False"),
    "FlashAttention": (
        "a flash attention kernel",
        'the attention implementation "sdpa" or "eager"',
    ),
    "EfficientAttention": (
        "a fused attention kernel",
        'the attention implementation "sdpa" or "eager"',
    ),
    "CudnnAttention": (
        "a fused attention kernel",
        'the attention implementation "sdpa" or "eager"',
    ),
}


def math_attention() -> AbstractContextManager[None]:
    """Run ``scaled_dot_product_attention`` by its differentiable definition inside this context.

    The fused kernels have no second derivative; the definition costs 1.2 to 1.5 times their time
    and gives the same numbers up to rounding.

    Example:
        >>> q = torch.ones(1, 1, 2, 2, requires_grad=True)
        >>> with math_attention():
        ...     out = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        >>> first = torch.autograd.grad(out.square().sum(), q, create_graph=True)[0]
        >>> first.sum().backward()
        >>> q.grad is not None
        True
    """
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context


def _nodes(loss: Tensor) -> Iterator[Node]:
    waiting: list[Node | None] = [loss.grad_fn]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting.extend(parent for parent, _ in node.next_functions)


def _harmless(node: Node) -> bool:
    """DDP uses its sink also to find unused parameters: only the static graph is wrong."""
    reference = getattr(node, "ddp_weakref", None)
    wrapper = reference() if callable(reference) else None
    return wrapper is not None and not wrapper.static_graph


def check_twice_differentiable(loss: Tensor) -> None:
    """Raise if the graph of ``loss`` holds a node whose gradient is not differentiable, or silently
    wrong.

    Raises:
        RuntimeError: for a compiled function, DDP with ``static_graph=True`` (its gradients would
            be silently wrong) and fused attention kernels; the message names the remedies.
    """
    for node in _nodes(loss):
        name = node.name()
        for key, (what, other) in _REFUSED.items():
            if key in name and not _harmless(node):
                raise RuntimeError(
                    f"a gradient penalty cannot differentiate through {what} (graph node {name}): "
                    + _REMEDIES.format(other=other)
                )


def differentiable_gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    r"""``d loss / d inputs`` as functions of the parameters; zeros for inputs the loss does not
    reach.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> gradient = differentiable_gradients(x**3, [x])[0]
        >>> gradient.backward()
        >>> gradient.item(), x.grad.item()
        (27.0, 18.0)
    """
    found = torch.autograd.grad(loss, list(inputs), create_graph=True, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]
