"""Exact gradients of every task with respect to the shared parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kexue_pl.balancers.base import Balancer
from kexue_pl.distributed import world_size
from kexue_pl.gradients.fan_out import FanOut, finite_or_ones
from kexue_pl.gradients.gram import gram_of_parts
from kexue_pl.gradients.losses import global_losses
from kexue_pl.gradients.ranks import average_ranks, same_on_ranks, sum_ranks


def task_gradients(
    losses: Sequence[Tensor | None],
    parameters: Sequence[nn.Parameter],
    *,
    own: Sequence[Sequence[nn.Parameter]] | None = None,
    counts: Sequence[float] | None = None,
    fan: FanOut | None = None,
    chunk: int = 1,
    scale: float = 1.0,
    read: Sequence[nn.Parameter] | None = None,
) -> TaskGradients:
    r"""Per-task gradients of the joint batch, reduced over ranks.

    .. math:: J_t = \frac1W \sum_r \nabla_\theta L_{rt}, \qquad G = J J^\top

    ``torch.autograd.grad`` fires no data-parallel hook, so the gradients are reduced here, whenever
    there is more than one rank; afterwards write them with :meth:`TaskGradients.assign` and step.
    With ``fan`` (of the encoding between trunk and heads) the heads run backward once and the trunk
    T times; without it every loss runs backward through everything.

    Args:
        losses: T scalars; None where this rank's batch has nothing for the task.
        parameters: the shared parameters; P numbers in all.
        own: T lists of task-specific parameters, whose gradients are wanted as well.
        counts: T local numbers of examples; None for equal batches.
        fan: the fan-out whose views the losses were computed from.
        chunk: with ``fan``, tasks that go through the trunk in one batched product; more is faster on
            accelerators and multiplies the memory of the trunk's backward.
        scale: the loss scale of a gradient scaler; rows are scaled, the Gram is not.
        read: those of the parameters whose gradients enter the Gram (:func:`chosen_parameters`);
            None for all. The weights apply to all either way.

    Raises:
        ValueError: no shared parameter, ``chunk`` < 1, or nothing to ``read`` among them.

    >>> w = nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> out = task_gradients([w[0] * 3, w.sum()], [w])
    >>> out.matrix.tolist(), out.gram.tolist()
    ([[3.0, 0.0], [1.0, 1.0]], [[9.0, 3.0], [3.0, 2.0]])
    """
    shared = [p for p in parameters if p.requires_grad]
    if not shared or chunk < 1:
        raise ValueError(
            f"task_gradients needs trainable parameters ({len(shared)}), chunk {chunk} >= 1"
        )
    wanted = None if read is None else {id(p) for p in read}
    places = [i for i, p in enumerate(shared) if wanted is None or id(p) in wanted]
    if not places:
        raise ValueError("task_gradients: none of the parameters to read is among the shared ones")
    heads = [[p for p in group if p.requires_grad] for group in own or [[] for _ in losses]]
    reduced = global_losses(losses, counts)
    terms = [None if t is None else t * scale if scale != 1 else t for t in reduced.terms]
    rows, mine = (
        _whole(terms, shared, heads) if fan is None else _split(terms, shared, heads, fan, chunk)
    )
    # The condition is the number of ranks alone: a factor of 1 or a loss scale must not skip it.
    if world_size() > 1:
        matrix = sum_ranks(_matrix(rows)) / world_size()
        rows = [_cut(row, shared) for row in matrix]
        averaged = iter(average_ranks([g for group in mine for g in group]))
        mine = [[next(averaged) for _ in group] for group in mine]
    return TaskGradients(shared, heads, rows, mine, reduced.values, reduced.counts, scale, places)


class TaskGradients:
    """Gradients of T tasks on the joint batch.

    Attributes:
        parameters: the shared parameters.
        rows: T lists of their gradients, times ``scale``.
        gram: (T, T) float64 of what is read, not scaled, identical on all ranks.
        losses: (T,) losses over all ranks; NaN where absent.
        counts: (T,) examples over all ranks.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        heads: list[list[nn.Parameter]],
        rows: list[list[Tensor]],
        mine: list[list[Tensor]],
        losses: Tensor,
        counts: Tensor,
        scale: float,
        places: list[int],
    ) -> None:
        self.parameters, self.heads, self.rows, self._mine = parameters, heads, rows, mine
        self.losses, self.counts, self.scale, self._places = losses, counts, scale, places
        self.gram = same_on_ranks(gram_of_parts([[row[i] for i in places] for row in rows]))
        self.gram /= scale**2
        for t, row in enumerate(rows if len(places) < len(parameters) else []):
            if not all(
                bool(g.isfinite().all()) for g in row
            ):  # broken where the Gram does not look
                self.gram[t], self.gram[:, t] = torch.nan, torch.nan

    @property
    def matrix(self) -> Tensor:
        """(T, P) the rows as one new matrix."""
        return _matrix(self.rows)

    @classmethod
    def merge(cls, parts: Sequence[TaskGradients]) -> TaskGradients:
        """The gradients of several micro-batches as those of one batch: accumulation, exactly.

        >>> w = nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> pieces = [task_gradients([w[0] * k], [w]) for k in (1.0, 3.0)]
        >>> TaskGradients.merge(pieces).matrix.tolist()
        [[2.0, 0.0]]
        """
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        counts = torch.stack([part.counts for part in parts])
        total = counts.sum(0)
        shares = torch.where(total > 0, counts / total, 0.0)
        losses = torch.stack([torch.where(p.counts > 0, p.losses, 0.0) for p in parts])
        values = torch.where(total > 0, (shares * losses).sum(0), torch.nan)
        rows = [[torch.zeros_like(g) for g in row] for row in first.rows]
        mine = [[torch.zeros_like(g) for g in group] for group in first._mine]
        for share, part in zip(shares.tolist(), parts):
            for t, factor in enumerate(share):
                for whole, piece in zip(rows[t] + mine[t], part.rows[t] + part._mine[t]):
                    whole.add_(piece, alpha=factor)
        fixed = (first.scale, first._places)
        return cls(first.parameters, first.heads, rows, mine, values, total, *fixed)

    def combine(self, rule: Balancer) -> tuple[Tensor, Tensor | None]:
        """The rule's update (P,), times ``scale``, and its weights (None without any).

        >>> from kexue_pl.balancers import MGDA
        >>> w = nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> update, weights = task_gradients([w[0], 2 * w[1]], [w]).combine(MGDA())
        >>> [round(x, 4) for x in update.tolist()], weights.round(decimals=4).tolist()
        ([0.8, 0.4], [0.8, 0.2])
        """
        if rule.needs_matrix:
            live = self.losses.isfinite()
            live = live if bool(live.any()) else ~live
            return rule.combine(self.matrix[live.to(self.matrix.device)], self.losses), None
        weights = rule.weights(self.gram, self.losses)
        values = finite_or_ones(weights)
        out = self.rows[0][0].new_zeros(sum(g.numel() for g in self.rows[0]))
        parts = _cut(out, self.parameters)
        for row, value in zip(
            self.rows, values
        ):  # one by one: an absent task must not change a bit
            if value != 0:
                torch._foreach_add_(parts, row, alpha=value)
        return out, weights

    @property
    def sound(self) -> Tensor:
        """(T,) which tasks are there and have a finite loss and gradient."""
        return self.losses.isfinite() & self.gram.diagonal().cpu().isfinite()

    def assign(self, update: Tensor, head_weights: Sequence[float] | None = None) -> None:
        """Write the update into ``.grad`` of the shared parameters, and the heads' own gradients.

        The gradients are views of ``update`` where dtypes agree: nothing is copied.

        Args:
            update: (P,) for the shared parameters.
            head_weights: T factors of the heads' gradients; None for 1. A head whose task is absent
                or quarantined gets None, so no optimizer moves it.
        """
        start = 0
        for p in self.parameters:
            p.grad = update[start : start + p.numel()].view_as(p).to(p.dtype)
            start += p.numel()
        finite = self.sound
        passes = not bool(finite.any())
        for t, (group, grads) in enumerate(zip(self.heads, self._mine)):
            factor = 1.0 if head_weights is None else head_weights[t]
            for p, g in zip(group, grads):
                p.grad = (g if factor == 1 else g * factor) if bool(finite[t]) or passes else None


def _whole(
    terms: Sequence[Tensor | None], shared: list[nn.Parameter], heads: list[list[nn.Parameter]]
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Every loss backward through heads and trunk."""
    rows, mine = [], []
    for t, term in enumerate(terms):
        found: Sequence[Tensor | None] = [None] * (len(shared) + len(heads[t]))
        if term is not None:
            found = torch.autograd.grad(
                term, [*shared, *heads[t]], retain_graph=True, allow_unused=True
            )
        rows.append(_dense(found[: len(shared)], shared))
        mine.append(_dense(found[len(shared) :], heads[t]))
    return rows, mine


def _split(
    terms: Sequence[Tensor | None],
    shared: list[nn.Parameter],
    heads: list[list[nn.Parameter]],
    fan: FanOut,
    chunk: int,
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """The heads once, then the trunk for every task."""
    present = [t for t, term in enumerate(terms) if term is not None]
    if not present:
        nothing = [_dense([None] * len(shared), shared) for _ in terms]
        return nothing, [_dense([None] * len(group), group) for group in heads]
    flat = [p for group in heads for p in group]
    total = torch.stack([term for term in terms if term is not None]).sum()
    found: Sequence[Tensor | None] = torch.autograd.grad(
        total, [*fan.views, *flat], allow_unused=True
    )
    mine, start = [], len(fan.views)
    for group in heads:
        mine.append(_dense(found[start : start + len(group)], group))
        start += len(group)
    deltas = _dense(found[: len(fan.views)], fan.views)
    rows: list[Sequence[Tensor | None]] = [[None] * len(shared) for _ in terms]
    for first in range(0, len(present), chunk):
        block = present[first : first + chunk]
        last = first + chunk >= len(present)
        for t, row in zip(block, _trunk(block, shared, fan.encoding, deltas, retain=not last)):
            rows[t] = row
    return [_dense(row, shared) for row in rows], mine


def _trunk(
    block: list[int],
    shared: list[nn.Parameter],
    encoding: Tensor,
    deltas: list[Tensor],
    *,
    retain: bool,
) -> list[Sequence[Tensor | None]]:
    """The rows of ``block`` by one (batched) vector-Jacobian product through the trunk."""
    if len(block) == 1:
        return [
            torch.autograd.grad(
                encoding, shared, deltas[block[0]], retain_graph=retain, allow_unused=True
            )
        ]
    stacked = torch.stack([deltas[t] for t in block])
    many = torch.autograd.grad(
        encoding, shared, stacked, retain_graph=retain, allow_unused=True, is_grads_batched=True
    )
    return [[None if g is None else g[i] for g in many] for i in range(len(block))]


def _cut(row: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of a vector (P,) in the shapes of the parameters."""
    parts, start = [], 0
    for p in like:
        parts.append(row[start : start + p.numel()].view_as(p))
        start += p.numel()
    return parts


def _matrix(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.cat([g.reshape(-1) for g in row]) for row in rows])


def _dense(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if g is None else g.detach() for g, p in zip(found, like)]
