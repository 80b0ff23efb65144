"""How much the tasks share behind the encoder: everything, experts, or stitched towers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["CGC", "MMoE", "CrossStitch", "Hard", "make_sharing"]


class Hard(nn.Module):
    """Everything is shared: each task sees the encoding.

    A sharing has two halves. ``forward`` maps (..., H) to what all tasks share, where their gradients
    meet; ``task(t, shared)`` maps a view of it to the (..., H) features of task t. What ``own(t)``
    lists belongs to task t alone.
    """

    def __init__(self, hidden: int, tasks: int, experts: int = 0) -> None:
        super().__init__()
        self.hidden, self.tasks = hidden, tasks

    def forward(self, encoding: Tensor) -> Tensor:
        """The encoding itself."""
        return encoding

    def task(self, t: int, shared: Tensor) -> Tensor:
        """Features of task t."""
        return shared

    def own(self, t: int) -> Sequence[nn.Parameter]:
        """Parameters of task t alone."""
        return []


class MMoE(Hard):
    r"""Shared experts, one softmax gate a task.

    .. math:: h_t = \sum_e \mathrm{softmax}(W_t h)_e\, E_e(h)

    Ma et al. 2018, "Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts" (KDD).
    """

    def __init__(self, hidden: int, tasks: int, experts: int = 4) -> None:
        super().__init__(hidden, tasks)
        if experts < 1:
            raise ValueError(f"task.experts={experts}: expected at least 1")
        self.experts = nn.ModuleList(_expert(hidden) for _ in range(experts))
        self.gates = nn.ModuleList(nn.Linear(hidden, experts) for _ in range(tasks))

    def forward(self, encoding: Tensor) -> Tensor:
        """The encoding and all experts' answers side by side, (..., (1 + E) H)."""
        return torch.cat([encoding, *(expert(encoding) for expert in self.experts)], -1)

    def task(self, t: int, shared: Tensor) -> Tensor:
        """The experts mixed by gate t."""
        encoding, answers = self._parts(shared)
        return _mix(self.gates[t](encoding), answers)

    def own(self, t: int) -> Sequence[nn.Parameter]:
        """Gate t."""
        return list(self.gates[t].parameters())

    def _parts(self, shared: Tensor) -> tuple[Tensor, Tensor]:
        encoding = shared[..., : self.hidden]
        answers = shared[..., self.hidden :].reshape(*encoding.shape[:-1], -1, self.hidden)
        return encoding, answers


class CGC(MMoE):
    r"""Shared and task-specific experts behind one gate a task: one level of PLE.

    Tang et al. 2020, "Progressive layered extraction" (RecSys).
    """

    def __init__(self, hidden: int, tasks: int, experts: int = 2) -> None:
        super().__init__(hidden, tasks, experts)
        self.private = nn.ModuleList(_expert(hidden) for _ in range(tasks))
        self.gates = nn.ModuleList(nn.Linear(hidden, experts + 1) for _ in range(tasks))

    def task(self, t: int, shared: Tensor) -> Tensor:
        """Shared experts and the task's own one mixed by gate t."""
        encoding, answers = self._parts(shared)
        mine = self.private[t](encoding)[..., None, :]
        return _mix(self.gates[t](encoding), torch.cat([answers, mine], -2))

    def own(self, t: int) -> Sequence[nn.Parameter]:
        """Gate and expert of task t."""
        return [*self.gates[t].parameters(), *self.private[t].parameters()]


class CrossStitch(Hard):
    r"""One tower a task, mixed by learned units: :math:`h_t = \sum_s \alpha_{ts} E_s(h)`.

    Misra et al. 2016 (arXiv 1604.03539), one layer of towers over the shared encoder;
    :math:`\alpha` starts at 0.9 for the own tower.
    """

    def __init__(self, hidden: int, tasks: int, experts: int = 0) -> None:
        super().__init__(hidden, tasks)
        self.towers = nn.ModuleList(_expert(hidden) for _ in range(tasks))
        rest = 0.1 / max(1, tasks - 1)
        rows = torch.full((tasks, tasks), rest).fill_diagonal_(0.9 if tasks > 1 else 1.0)
        self.stitch = nn.ParameterList(nn.Parameter(row.clone()) for row in rows)

    def forward(self, encoding: Tensor) -> Tensor:
        """All towers side by side, (..., T H)."""
        return torch.cat([tower(encoding) for tower in self.towers], -1)

    def task(self, t: int, shared: Tensor) -> Tensor:
        """The towers mixed by row t."""
        towers = shared.reshape(*shared.shape[:-1], self.tasks, self.hidden)
        return torch.einsum("s,...sh->...h", self.stitch[t], towers)

    def own(self, t: int) -> Sequence[nn.Parameter]:
        """Row t of the stitching units."""
        return [self.stitch[t]]


SHARINGS: dict[str, type[Hard]] = {
    "hard": Hard,
    "mmoe": MMoE,
    "cgc": CGC,
    "cross_stitch": CrossStitch,
}


def make_sharing(name: str, hidden: int, tasks: int, experts: int) -> Hard:
    """A sharing by its name.

    Raises:
        ValueError: there is none of that name.

    >>> make_sharing("mmoe", 4, 2, 3)(torch.zeros(1, 4)).shape
    torch.Size([1, 16])
    """
    if name not in SHARINGS:
        raise ValueError(f"task.sharing={name!r}: expected one of {', '.join(SHARINGS)}")
    return SHARINGS[name](hidden, tasks, experts)


def _expert(hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU())


def _mix(logits: Tensor, answers: Tensor) -> Tensor:
    return torch.einsum("...e,...eh->...h", logits.softmax(-1), answers)
