"""Short trainings of every rule on this rank's part of a joint batch, right and naive."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kexue_pl import balancers as b
from kexue_pl.distributed import rank as my_rank
from kexue_pl.distributed import world_size
from kexue_pl.gradients import (
    fan_out,
    global_losses,
    gram_matrix,
    task_gradients,
    window_backward,
)
from kexue_pl.gradients import ranks as reductions
from tests.balancers.rules import FACTS

TASKS, BATCH, SHORT, LONG = 4, 16, 10, 50
FOLDER = Path(__file__).parents[2] / "conf" / "balancer"
FILES = {path.stem: path for path in FOLDER.glob("*.yaml")}
RULES = sorted({*FILES, *FACTS})


class Run(NamedTuple):
    """Parameters after SHORT and after all steps, and the weights of every step."""

    short: Tensor
    end: Tensor
    weights: Tensor


@cache
def needs(name: str) -> tuple[bool, bool]:
    """Whether a rule reads the Gram, and whether it reads the full matrix."""
    rule = made(name)
    return rule.needs_gram, rule.needs_matrix


def made(name: str) -> b.Balancer:
    """A rule with settings for four tasks; a new file of conf/balancer is taken as it stands."""
    if name in FACTS:
        return FACTS[name].make()
    rule: b.Balancer = instantiate(OmegaConf.load(FILES[name]))
    return rule


class Net(nn.Module):
    """A trunk and four linear heads, as few operations as there can be."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.heads = nn.ParameterList(torch.randn(8) / 3 for _ in range(TASKS))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.trunk(x)
        return z


@cache
def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's rows of a global batch, with a row of labels a task and a mask."""
    g = torch.Generator().manual_seed(100 + step)
    x = torch.randn(BATCH, 6, generator=g, dtype=torch.float64)
    y = torch.tanh(x[:, :TASKS] * torch.tensor([1.0, -1.0, 2.0, 0.5])) * torch.tensor(
        [1.0, 3.0, 9.0, 1.0]
    )
    mask = torch.ones(BATCH, TASKS, dtype=torch.bool)
    mask[::2, 3] = False  # rank 0 takes the even rows and never sees the last task
    mine = slice(my_rank(), None, world_size())
    return x[mine], y[mine].T.contiguous(), mask[mine].T.contiguous()


def losses_of(
    net: Net, views: Sequence[Tensor], rows: tuple[Tensor, Tensor, Tensor]
) -> tuple[list[Tensor | None], list[float]]:
    """Mean losses of this rank's labels and their numbers."""
    _, y, mask = rows
    found = (torch.stack(list(views)) * torch.stack(list(net.heads))[:, None]).sum(-1)
    counts: list[float] = mask.sum(1).tolist()
    means = ((found - y).square() * mask).sum(1) / mask.sum(1).clamp(min=1)
    return [x if n else None for x, n in zip(means.unbind(), counts)], counts


def flat(net: Net) -> Tensor:
    """All parameters in one vector of its own."""
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def local_values(losses: Sequence[Tensor | None]) -> Tensor:
    """The losses of this rank alone."""
    return torch.stack(
        [torch.tensor(float("nan")).double() if x is None else x.detach() for x in losses]
    )


def encoding_run(name: str, steps: int = SHORT, naive: str = "") -> Run:
    """At the encoding; ``naive``: an averaged "gram", or "weights" of each rank's own batch."""

    def wrong(rows: Sequence[Tensor], scale: Tensor) -> Tensor:
        local = gram_matrix(torch.stack(list(rows))) / float(scale) ** 2
        return reductions.sum_ranks(local) / world_size() if naive == "gram" else local

    module = import_module("kexue_pl.gradients.fan_out")
    with mock.patch.object(module, "joint_gram", wrong if naive else module.joint_gram):
        return _encoding_run(name, steps, own_losses=naive == "weights")


def _encoding_run(name: str, steps: int, *, own_losses: bool) -> Run:
    net, rule = Net(), made(name)
    wrapped = DistributedDataParallel(net) if world_size() > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kept, short = [], flat(net)
    for step in range(steps):
        rows = batch(step)
        optimizer.zero_grad()
        fan = fan_out(wrapped(rows[0]), rule, tasks=TASKS)
        losses, counts = losses_of(net, fan.views, rows)
        total = fan.join(losses, counts)
        if own_losses:
            fan.losses = local_values(losses)
        total.backward()
        optimizer.step()
        kept.append(fan.weights)
        short = flat(net) if step + 1 == SHORT else short
    return Run(short, flat(net), torch.stack(kept))


def parameter_run(name: str, steps: int = SHORT) -> Run:
    """At the parameters."""
    net, rule = Net(), made(name)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    shared, own = list(net.trunk.parameters()), [[h] for h in net.heads]
    kept, short = [], flat(net)
    for step in range(steps):
        rows = batch(step)
        fan = fan_out(net.trunk(rows[0]), b.Equal(), tasks=TASKS)
        losses, counts = losses_of(net, fan.views, rows)
        found = task_gradients(losses, shared, own=own, counts=counts, fan=fan)
        update, weights = found.combine(rule)
        found.assign(update)
        optimizer.step()
        kept.append(torch.zeros(TASKS) if weights is None else weights)
        short = flat(net) if step + 1 == SHORT else short
    return Run(short, flat(net), torch.stack(kept))


def naive_parameter_run(name: str, naive: str) -> Run:
    """The same with the ranks' rows not averaged before their Gram is taken."""
    net, rule = Net(), made(name)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    shared, kept = list(net.trunk.parameters()), []
    for step in range(SHORT):
        losses, counts = losses_of(net, [net.trunk(batch(step)[0])] * TASKS, batch(step))
        reduced = global_losses(losses, counts)
        matrix = torch.stack([_row(term, shared) for term in reduced.terms])
        optimizer.zero_grad()
        total = reduced.total()
        assert total is not None
        total.backward()
        update, weights = _naive_update(rule, matrix, reduced.values, losses, naive)
        _assign(net, shared, reductions.sum_ranks(update) / world_size())
        optimizer.step()
        kept.append(weights)
    return Run(flat(net), flat(net), torch.stack(kept))


def _row(term: Tensor | None, shared: list[nn.Parameter]) -> Tensor:
    if term is None:
        return torch.cat([p.new_zeros(p.numel()) for p in shared])
    return torch.cat([g.flatten() for g in torch.autograd.grad(term, shared, retain_graph=True)])


def _naive_update(
    rule: b.Balancer,
    matrix: Tensor,
    values: Tensor,
    losses: Sequence[Tensor | None],
    naive: str,
) -> tuple[Tensor, Tensor]:
    if naive == "weights":
        values = local_values(losses)
    if rule.needs_matrix:
        live = values.isfinite()
        return rule.combine(matrix[live], values), torch.zeros(TASKS)
    gram = gram_matrix(matrix)
    if naive == "gram":
        gram = reductions.sum_ranks(gram) / world_size()
    weights = rule.weights(gram, values)
    return weights @ matrix, weights


def _assign(net: Net, shared: list[nn.Parameter], update: Tensor) -> None:
    pieces = update.split([p.numel() for p in shared])
    for p, piece in zip(shared, pieces, strict=True):
        p.grad = piece.view_as(p)
    for p, g in zip(net.heads, reductions.average_ranks([p.grad for p in net.heads])):
        p.grad = g


def window_run(parts: int) -> Run:
    """Accumulation over ``parts`` micro-batches in the window form."""
    net, rule = Net(), b.InverseGradNorm()
    wrapped = DistributedDataParallel(net) if world_size() > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kept = []
    for step in range(SHORT):
        x, y, mask = batch(step)
        pieces = [(x[i::parts], y[:, i::parts], mask[:, i::parts]) for i in range(parts)]
        optimizer.zero_grad()
        fan = window_backward(
            pieces,
            rule,
            tasks=TASKS,
            encode=lambda rows: wrapped(rows[0]),
            heads=lambda views, rows: losses_of(net, views, rows),
            backward=lambda loss, i: loss.backward(),
        )
        optimizer.step()
        kept.append(fan.weights)
    return Run(flat(net), flat(net), torch.stack(kept))


def every_run(rank: int, world: int, steps: int) -> dict[tuple[str, str, str], Run]:
    """(level, naive or "", rule) to what came of it, for every rule at both levels."""
    torch.set_num_threads(1)
    out = {}
    for name in RULES:
        gram, matrix = needs(name)
        out["parameters", "", name] = parameter_run(name, steps)
        for naive in ("weights", "gram") if gram and not matrix else ("weights",):
            out["parameters", naive, name] = naive_parameter_run(name, naive)
        if matrix:
            continue
        out["encoding", "", name] = encoding_run(name, steps)
        for naive in ("weights", "gram") if gram else ("weights",):
            out["encoding", naive, name] = encoding_run(name, naive=naive)
    out["encoding", "window", "inverse_grad_norm"] = window_run(2)
    return out
