"""What every balancing rule shares: the contract, dropping of dead tasks, state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor


class Balancer:
    r"""A rule that turns a Gram matrix and losses into task weights.

    The update is :math:`u = \sum_i a_i g_i` with :math:`a` = ``weights(gram, losses)`` and
    :math:`g_i` the gradient of task i with respect to what the tasks share (its parameters, or
    their common encoding); ``gram[i, j]`` is :math:`\langle g_i, g_j\rangle`. Articles 8870, 8896
    and 8907 of kexue.fm/archives.

    A subclass overrides :meth:`solve`, which sees the live tasks only. A task whose loss is not
    finite (absent tasks are given as NaN) or whose gradient is zero or not finite is dead: its
    weight is 0 and the others are weighted exactly as if it did not exist.

    Class attributes:
        needs_gram: the rule reads ``gram``.
        needs_losses: the rule reads ``losses``.
        needs_matrix: the rule is no weighted sum; it offers ``combine(matrix)`` instead.
        heads: what the task-specific parameters get: ``"weighted"`` (weight times their gradient)
            or ``"own"`` (their unweighted gradient).
        certified: the weights minimise ``a' G a`` over the simplex, so a duality gap certifies them.
    """

    needs_gram: bool = False
    needs_losses: bool = False
    needs_matrix: bool = False
    certified: bool = False
    heads: Literal["weighted", "own"] = "weighted"

    def __init__(self) -> None:
        self._state: dict[str, Tensor] = {}

    @property
    def name(self) -> str:
        """The rule's name in messages.

        >>> from kexue_pl.balancers import Equal
        >>> Equal().name
        'Equal'
        """
        return type(self).__name__

    def weights(self, gram: Tensor | None, losses: Tensor | None = None) -> Tensor:
        """Weight the tasks.

        Args:
            gram: (T, T) inner products of the task gradients, or None for rules that need none.
            losses: (T,) losses reduced over ranks, NaN where a task is absent; or None.

        Returns:
            (T,) float64 weights on the CPU; 0 for dead tasks; all NaN when no task is finite, so
            that a loss scaler or a finite guard skips the step.

        Raises:
            ValueError: an input the rule needs is missing or has a wrong shape.

        >>> import torch
        >>> from kexue_pl.balancers import InverseGradNorm
        >>> rule = InverseGradNorm()
        >>> rule.weights(torch.tensor([[4.0, 0.0], [0.0, 0.25]])).tolist()
        [0.5, 2.0]
        """
        gram, losses, finite, live = self._check(gram, losses)
        n = len(finite)
        self._total = n
        if all(live):  # the usual step: nothing to take out and put back
            return self.solve(gram, losses, torch.arange(n)).to(torch.float64, copy=True)
        out = torch.zeros(n, dtype=torch.float64)
        if not any(finite):
            return out.fill_(torch.nan)
        if not any(live):
            return torch.tensor(finite, dtype=torch.float64)
        tasks = torch.tensor([i for i in range(n) if live[i]])
        part = None if gram is None else gram[tasks][:, tasks]
        out[tasks] = self.solve(part, None if losses is None else losses[tasks], tasks)
        return out

    def solve(self, gram: Tensor | None, losses: Tensor | None, tasks: Tensor) -> Tensor:
        """Weights of the live tasks only: (n, n) float64, (n,) float64, (n,) their indices."""
        raise NotImplementedError

    def combine(self, matrix: Tensor, losses: Tensor | None = None) -> Tensor:
        """Combine the task gradients (T, P) themselves into the update (P,), in their dtype.

        >>> import torch
        >>> from kexue_pl.balancers import Equal
        >>> Equal().combine(torch.tensor([[1.0, 2.0], [3.0, -1.0]])).tolist()
        [4.0, 1.0]
        """
        wide = matrix.double()
        weights = self.weights(wide @ wide.T, losses).to(matrix.device)
        live = weights != 0
        return (weights[live].to(matrix.dtype)[:, None] * matrix[live]).sum(0)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as tensors.

        >>> from kexue_pl.balancers import Equal
        >>> Equal().state_dict()
        {}
        """
        return {key: value.clone() for key, value in self._state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put a saved state back.

        Raises:
            TypeError: a value is not a tensor.
        """
        for key, value in state.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"{self.name}: state {key!r} is {type(value).__name__}, not a Tensor"
                )
        self._state = {key: value.clone() for key, value in state.items()}

    def _per_task(self, key: str, fill: float) -> Tensor:
        """The (T,) float64 state ``key``, made on first use."""
        if key not in self._state:
            self._state[key] = torch.full((self._total,), fill, dtype=torch.float64)
        return self._state[key]

    def _count(self, key: str) -> int:
        """Calls so far, then one more: a counter that lives in the state."""
        now = int(self._state.get(key, torch.zeros((), dtype=torch.int64)))
        self._state[key] = torch.tensor(now + 1)
        return now

    def _check(
        self, gram: Tensor | None, losses: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, list[bool], list[bool]]:
        """Inputs as float64 on the CPU; which tasks are finite, and which of them are live."""
        if gram is None and losses is None:
            raise ValueError(
                f"{self.name}: both gram and losses are None; give what the rule reads"
            )
        if self.needs_gram and gram is None:
            raise ValueError(
                f"{self.name} reads the Gram matrix of the task gradients, got gram=None; "
                "take it from kexue_pl.gradients (task.level=encoding or parameters)"
            )
        if self.needs_losses and losses is None:
            raise ValueError(f"{self.name} reads the task losses, got losses=None")
        if gram is not None:
            gram = gram.detach().to("cpu", torch.float64)
            if gram.dim() != 2 or gram.shape[0] != gram.shape[1]:
                raise ValueError(f"gram must be (T, T), got shape {tuple(gram.shape)}")
        if losses is not None:
            losses = losses.detach().to("cpu", torch.float64)
            if losses.dim() != 1 or (gram is not None and len(losses) != len(gram)):
                raise ValueError(
                    f"losses must be (T,), got shape {tuple(losses.shape)}"
                    + ("" if gram is None else f" beside a Gram of {len(gram)} tasks")
                )
        diagonal = [] if gram is None else gram.diagonal().tolist()
        values = [0.0] * len(diagonal) if losses is None else losses.tolist()
        squares = diagonal or [1.0] * len(values)
        finite = [math.isfinite(x) and math.isfinite(s) for x, s in zip(values, squares)]
        if not self.needs_gram:
            return None, losses, finite, finite
        return gram, losses, finite, [f and s > 0 for f, s in zip(finite, squares)]


def positive(losses: Tensor, tasks: Tensor, rule: str) -> Tensor:
    """Refuse losses that are not positive, naming the task.

    Raises:
        ValueError: some loss is zero or negative.

    >>> import torch
    >>> positive(torch.tensor([1.0, 0.5]), torch.arange(2), "Geometric").tolist()
    [1.0, 0.5]
    """
    bad = (losses <= 0).nonzero()
    if len(bad):
        at = int(bad[0, 0])
        raise ValueError(
            f"{rule} needs positive losses, but task {int(tasks[at])} has {float(losses[at]):g}; "
            "use balancer=inverse_grad_norm, which does not read the loss's value"
        )
    return losses
