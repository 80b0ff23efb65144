"""Task gradients of a shared encoding from one ordinary backward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kexue_pl.balancers.base import Balancer
from kexue_pl.distributed import world_size
from kexue_pl.gradients.gram import gram_of_parts
from kexue_pl.gradients.losses import GlobalLosses, global_losses
from kexue_pl.gradients.ranks import sum_ranks


def fan_out(
    encoding: Tensor,
    rule: Balancer | None,
    *,
    tasks: int,
    weights: Tensor | None = None,
) -> FanOut:
    r"""Hand one encoding out to T heads and balance their gradients where they meet again.

    The backward pass of the hand-out receives :math:`G_t = \partial L_t / \partial z` of every head
    in **one** ordinary backward, forms their Gram (summed over ranks, in float64), asks the rule for
    weights and passes :math:`\sum_t w_t G_t` on to the encoder. Every head keeps its own gradient.

    Article 8896 (kexue.fm/archives/8896): since
    :math:`\lVert\sum a_t \nabla_\theta L_t\rVert \le \lVert \partial z/\partial\theta\rVert
    \lVert\sum a_t \nabla_z L_t\rVert`, this minimises an **upper bound**: a heuristic, not the exact
    min-norm in parameter space (that is :func:`~kexue_pl.gradients.task_gradients`). It needs a batch
    that all tasks share: with disjoint batches the Gram is diagonal and no conflict is ever seen.

    Args:
        encoding: z, any shape; the output of what the tasks share.
        rule: any rule that works on a Gram; None when ``weights`` are given.
        tasks: T >= 1.
        weights: (T,) fixed weights instead of a rule.

    Returns:
        A :class:`FanOut`: feed ``views[t]`` to head t, pass the losses to ``join``, run backward.

    Raises:
        ValueError: neither or both of ``rule`` and ``weights``, or a rule that needs the full matrix.

    >>> from kexue_pl.balancers import MGDA
    >>> z = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    >>> fan = fan_out(z, MGDA(), tasks=2)
    >>> fan.join([fan.views[0][0, 0], 2 * fan.views[1][0, 1]]).backward()
    >>> fan.gram.tolist(), z.grad.round(decimals=4).tolist()
    ([[1.0, 0.0], [0.0, 4.0]], [[0.8, 0.4]])
    """
    if (rule is None) == (weights is None):
        raise ValueError("fan_out needs either a rule or fixed weights")
    if rule is not None and rule.needs_matrix:
        raise ValueError(
            f"{rule.name} needs the full matrix of gradients, which the encoding level does not "
            "have; use task.level=parameters"
        )
    if tasks < 1:
        raise ValueError(f"tasks={tasks} must be at least 1")
    return FanOut(encoding, rule, tasks, weights)


class FanOut:
    """What :func:`fan_out` returns.

    Attributes:
        encoding: the tensor handed out.
        views: T tensors equal to it, one for each head.
        losses: (T,) losses over all ranks, after :meth:`join`; NaN where absent.
        gram: (T, T) float64 Gram of the joint batch, after the backward pass.
        weights: (T,) float64 weights used, after the backward pass.
    """

    def __init__(
        self, encoding: Tensor, rule: Balancer | None, tasks: int, weights: Tensor | None
    ) -> None:
        self.encoding, self.rule, self.tasks, self.fixed = encoding, rule, tasks, weights
        probe = torch.zeros((), device=encoding.device, requires_grad=True)
        *views, self._probe = _HandOut.apply(encoding, probe, self)  # type: ignore[no-untyped-call]
        self.views: tuple[Tensor, ...] = tuple(views)
        self.losses: Tensor | None = None
        self.gram: Tensor | None = None
        self.weights: Tensor | None = None if weights is None else weights.double().cpu()
        self.global_losses: GlobalLosses | None = None

    def join(
        self, losses: Sequence[Tensor | None], counts: Sequence[float] | None = None
    ) -> Tensor:
        """The total to run backward from: the sum of the task losses of the joint batch.

        Under data parallelism the gradients must be averaged over ranks afterwards, as DDP and FSDP
        do. A rank that has no task at all still joins: its total is a zero that keeps it in step.

        Args:
            losses: T scalars; None where this rank's batch has nothing for the task.
            counts: T local numbers of examples behind the losses; None for equal batches.

        Raises:
            ValueError: another number of losses than tasks.
        """
        if len(losses) != self.tasks:
            raise ValueError(f"join got {len(losses)} losses for {self.tasks} tasks")
        self.global_losses = global_losses(losses, counts)
        self.losses = self.global_losses.values
        return self.close(self.global_losses.total())

    def close(self, total: Tensor | None) -> Tensor:
        """``total`` with the probe in it, for callers that reduced the losses themselves."""
        probe: Tensor = self._probe
        return probe if total is None else total + probe


class _HandOut(torch.autograd.Function):
    """T views of the encoding and a probe.

    The probe is a float32 zero that is part of the total, so the gradient that arrives at it is
    exactly the factor between the losses and the backward pass (loss scaler, 1/accumulation, a
    constant of the user): the Gram is unscaled without asking who scaled. It also keeps the hand-out
    in the graph of a rank whose batch has no task, so every rank reaches the collective.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, probe: Tensor, owner: FanOut) -> tuple[Tensor, ...]:
        ctx.owner = owner
        return *(z.view_as(z) for _ in range(owner.tasks)), probe.view_as(probe)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        owner: FanOut = ctx.owner
        if not ctx.needs_input_grad[0] and owner.fixed is not None:
            return None, None, None
        rows = grads[:-1]
        if owner.fixed is None:
            owner.gram = joint_gram(rows, grads[-1])
            assert owner.rule is not None
            owner.weights = owner.rule.weights(owner.gram, owner.losses)
        assert owner.weights is not None
        return weighted_sum(rows, owner.weights), None, None


def joint_gram(rows: Sequence[Tensor], scale: Tensor) -> Tensor:
    r"""Gram of the joint batch's encoding, :math:`\frac{1}{W^2 s^2} \sum_r A_r A_r^\top`.

    The samples of the ranks are disjoint, so the Gram adds up; W averages as DDP does, s undoes the
    loss scale.

    Raises:
        RuntimeError: the probe was not part of the loss.

    >>> joint_gram([torch.tensor([2.0, 0.0])], torch.tensor(2.0)).tolist()
    [[1.0]]
    """
    factor = float(scale)
    if factor == 0:
        raise RuntimeError(
            "fan_out: run backward from the value of join(losses), not from the losses"
        )
    gram = gram_of_parts([[row] for row in rows])
    if factor == 1 and world_size() == 1:
        return gram
    return sum_ranks(gram) / (world_size() * factor) ** 2


def finite_or_ones(weights: Tensor) -> list[float]:
    """The weights; ones where they are not all finite, to pass on the overflow that caused it.

    >>> finite_or_ones(torch.tensor([0.5, 2.0])), finite_or_ones(torch.tensor([float("nan"), 2.0]))
    ([0.5, 2.0], [1.0, 1.0])
    """
    values: list[float] = weights.tolist()
    return values if all(map(math.isfinite, values)) else [1.0] * len(values)


def weighted_sum(rows: Sequence[Tensor], weights: Tensor) -> Tensor:
    r""":math:`\sum_t w_t g_t` over the tasks of non-zero weight (0 times NaN would be NaN).

    Weights that are not finite pass the plain sum on, with the overflow that caused them.

    >>> rows = [torch.tensor([1.0]), torch.tensor([float("nan")])]
    >>> weighted_sum(rows, torch.tensor([2.0, 0.0]))
    tensor([2.])
    """
    dtype = rows[0].dtype
    out = torch.zeros_like(rows[0], dtype=torch.promote_types(dtype, torch.float32))
    for row, value in zip(rows, finite_or_ones(weights)):  # an absent task must not change a bit
        if value != 0:
            out.add_(row, alpha=value)
    return out.to(dtype)
