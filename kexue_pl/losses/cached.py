"""Two-pass training: an in-batch loss over a batch larger than memory, with the exact gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kexue_pl.losses.base import PairOutputs

__all__ = ["cached_loss", "split_batch"]

Micro = TypeVar("Micro")


def split_batch(batch: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """Cut a batch of tensors along their first dimension into micro-batches of at most `size` rows.

    Values that are not tensors are handed to every micro-batch.

    >>> [part["x"].tolist() for part in split_batch({"x": torch.arange(3)}, 2)]
    [[0, 1], [2]]
    """
    if size < 1:
        raise ValueError(f"micro-batch size {size}: must be at least 1")
    rows = {value.shape[0] for value in batch.values() if isinstance(value, Tensor) and value.ndim}
    if len(rows) != 1:
        raise ValueError(f"the tensors of a batch must have one number of rows, got {sorted(rows)}")
    return [
        {
            name: value[start : start + size] if isinstance(value, Tensor) and value.ndim else value
            for name, value in batch.items()
        }
        for start in range(0, max(1, rows.pop()), size)
    ]


class _KnownGradients(torch.autograd.Function):
    """A number whose gradient by each parameter is already known."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor | None], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.detach().clone()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("a cached loss can be differentiated once; compute it again")
        scaled = (None if g is None else g.mul_(upstream.to(g.dtype)) for g in gradients)
        return (None, None, *scaled)


def cached_loss(
    forward: Callable[[Micro], PairOutputs],
    micros: Sequence[Micro],
    criterion: Callable[[PairOutputs], Tensor],
    parameters: Iterable[nn.Parameter],
) -> Tensor:
    """The loss of all micro-batches as one batch, at the memory of one micro-batch.

    For an in-batch loss, accumulating gradients over micro-batches optimises another loss. Here

        pass 1   r_m = forward(micro m), no graph; L = criterion(all r); g = dL/dr
        pass 2   for each m: replay the random state, forward again, dL/dtheta += <g_m, dr_m/dtheta>

    which is the gradient of the whole batch, dropout included, for one more forward pass. The
    result behaves like an ordinary loss: call `backward` on it once; hooks of data parallelism,
    loss scaling, clipping and accumulation on top work unchanged, since each parameter receives its
    gradient there.

    Source: gradient caching, Gao et al., arXiv 2101.06983.

    Args:
        forward: model outputs of a micro-batch, for example `loss.compact(task.outputs(micro))`.
        micros: the micro-batches (`split_batch`), at least one.
        criterion: scalar loss of the outputs of all micro-batches; called once, so that a loss that
            gathers over ranks does so once.
        parameters: those to train; ones that the loss does not touch get no gradient.

    Returns:
        The loss, 0-dimensional; differentiable once and by `parameters` only.

    Needs about one extra copy of the gradients. Modules that count batches (batch normalisation)
    count twice. Parameters sharded by FSDP are not supported: their hooks act in the backward pass
    itself.

    >>> weight = nn.Parameter(torch.tensor(2.0))
    >>> loss = cached_loss(lambda x: PairOutputs(scores=weight * x),
    ...     [torch.tensor([1.0]), torch.tensor([3.0])], lambda r: r.scores.sum() ** 2, [weight])
    >>> loss.backward()
    >>> loss.item(), weight.grad.item()  # (2 * 4)^2 and d/dw (4 w)^2 = 32 w
    (64.0, 64.0)
    """
    trained = [p for p in parameters if p.requires_grad]
    if len(micros) == 1:
        return criterion(forward(micros[0]))
    if not torch.is_grad_enabled():
        return criterion(PairOutputs.cat([forward(micro) for micro in micros]))
    states, outputs = [], []
    for micro in micros:
        states.append(_random_state())
        with torch.no_grad():
            outputs.append(forward(micro))
    loss, upstream, gradients = _criterion_gradients(criterion, outputs, trained)
    starts = torch.tensor([0, *(part.rows() for part in outputs)]).cumsum(0).tolist()
    del outputs
    # Casts of weights made without a graph must not serve the pass that needs one.
    torch.clear_autocast_cache()
    for micro, state, start, stop in zip(micros, states, starts, starts[1:]):
        rows = {name: gradient[start:stop] for name, gradient in upstream.items()}
        with _replayed(state):
            _add(gradients, _micro_gradients(forward(micro), rows, trained))
    result: Tensor = _KnownGradients.apply(loss, gradients, *trained)  # type: ignore[no-untyped-call]
    return result


def _criterion_gradients(
    criterion: Callable[[PairOutputs], Tensor],
    outputs: list[PairOutputs],
    trained: list[nn.Parameter],
) -> tuple[Tensor, dict[str, Tensor], list[Tensor | None]]:
    """The loss, its gradient by each output, and by parameters that the criterion itself holds."""
    names = {n: t.requires_grad_() for n, t in PairOutputs.cat(outputs).tensors().items()}
    loss = criterion(PairOutputs(**names))
    got = torch.autograd.grad(loss, [*names.values(), *trained], allow_unused=True)
    upstream = {n: g for n, g in zip(names, got) if g is not None}
    gradients: list[Tensor | None] = [None] * len(trained)
    _add(gradients, list(got[len(names) :]))
    return loss.detach(), upstream, gradients


def _micro_gradients(
    outputs: PairOutputs, upstream: dict[str, Tensor], trained: list[nn.Parameter]
) -> list[Tensor | None]:
    """Gradient of <upstream, outputs> by each parameter."""
    pairs = [(t, upstream[n]) for n, t in outputs.tensors().items() if n in upstream]
    tensors = [t for t, _ in pairs if t.requires_grad]
    if not tensors:
        return [None] * len(trained)
    rows = [g for t, g in pairs if t.requires_grad]
    return list(torch.autograd.grad(tensors, trained, rows, allow_unused=True))


def _add(total: list[Tensor | None], more: list[Tensor | None]) -> None:
    """total += more, in place."""
    for i, gradient in enumerate(more):
        have = total[i]
        if gradient is not None:
            # A buffer of our own: what autograd returns may be a view.
            have = torch.zeros_like(gradient) if have is None else have
            total[i] = have.add_(gradient)


def _random_state() -> tuple[Tensor, list[Tensor]]:
    """State of the host's generator and of each CUDA device's, as used by dropout."""
    cuda = torch.cuda.is_available()
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if cuda else []


@contextmanager
def _replayed(state: tuple[Tensor, list[Tensor]]) -> Any:
    """Draw the same random numbers again; afterwards go on where the first pass ended."""
    now = _random_state()
    try:
        _restore(state)
        yield
    finally:
        _restore(now)


def _restore(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
