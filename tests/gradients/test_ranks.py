"""Two ranks equal one process on the joint batch, for every rule and both levels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
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
from tests.support.ranks import run_ranks

TASKS, BATCH, STEPS = 4, 16, 10
RULES = [name for name in FACTS if not FACTS[name].make().needs_matrix]
LONG = ("mgda", "inverse_grad_norm_ema", "gradnorm", "famo", "pcgrad", "cagrad", "graddrop")
NAIVE = [(what, name) for what in ("gram", "weights") for name in ("mgda", "inverse_grad_norm")]


class Net(nn.Module):
    """A trunk and four scalar heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8))
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(TASKS))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.trunk(x)
        return z


def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """This rank's rows of a global batch, with one column of labels a task and a mask."""
    g = torch.Generator().manual_seed(100 + step)
    x = torch.randn(BATCH, 6, generator=g, dtype=torch.float64)
    y = torch.tanh(x[:, :TASKS] * torch.tensor([1.0, -1.0, 2.0, 0.5])) * torch.tensor(
        [1.0, 3.0, 9.0, 1.0]
    )
    mask = torch.ones(BATCH, TASKS, dtype=torch.bool)
    mask[::2, 3] = False  # rank 0 takes the even rows and never sees the last task
    mine = slice(my_rank(), None, world_size())
    return x[mine], y[mine], mask[mine]


def losses_of(
    net: Net, views: Sequence[Tensor], rows: Any, scale: float = 1.0
) -> tuple[list[Tensor | None], list[float]]:
    _, y, mask = rows
    out: list[Tensor | None] = []
    for t, (head, view) in enumerate(zip(net.heads, views)):
        here = mask[:, t]
        error = (head(view)[:, 0] - y[:, t]).square()[here]
        out.append(error.mean() * scale if bool(here.any()) else None)
    return out, mask.sum(0).tolist()


def touch(net: Net) -> Tensor:
    """A zero that keeps every head in the graph."""
    return sum(p.sum() for p in net.heads.parameters()) * 0.0


def encoding_run(name: str, steps: int = STEPS, window: int = 1) -> tuple[Tensor, Tensor]:
    net, rule = Net(), FACTS[name].make()
    wrapped = DistributedDataParallel(net) if world_size() > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kept = []
    for step in range(steps):
        rows = batch(step)
        optimizer.zero_grad()
        fan = fan_out(wrapped(rows[0]), rule, tasks=TASKS)
        (fan.join(*losses_of(net, fan.views, rows)) + touch(net)).backward()
        optimizer.step()
        kept.append(fan.weights)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), torch.stack(kept)


def parameter_run(name: str, steps: int = STEPS, chunk: int = 1) -> tuple[Tensor, Tensor]:
    net = Net()
    rule = b.GradDrop() if name == "graddrop" else FACTS[name].make()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kept = []
    for step in range(steps):
        rows = batch(step)
        fan = fan_out(net.trunk(rows[0]), b.Equal(), tasks=TASKS)
        losses, counts = losses_of(net, fan.views, rows)
        found = task_gradients(
            losses,
            list(net.trunk.parameters()),
            own=[list(h.parameters()) for h in net.heads],
            counts=counts,
            fan=fan,
            chunk=chunk,
        )
        update, weights = found.combine(rule)
        found.assign(update)
        optimizer.step()
        kept.append(torch.zeros(TASKS) if weights is None else weights)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), torch.stack(kept)


def both_levels(rank: int, world: int) -> dict[str, tuple[Tensor, Tensor]]:
    torch.set_num_threads(1)
    out = {f"encoding {name}": encoding_run(name) for name in RULES}
    out |= {f"parameters {name}": parameter_run(name) for name in [*RULES, "graddrop"]}
    out["window"] = window_run(2)
    for what, name in NAIVE:
        out[f"naive encoding {what} {name}"] = naive_encoding_run(name, what)
        out[f"naive parameters {what} {name}"] = naive_parameter_run(name, what)
    for name in LONG:
        out[f"long parameters {name}"] = parameter_run(name, steps=50)
        if name != "graddrop":
            out[f"long encoding {name}"] = encoding_run(name, steps=50)
    return out


def window_run(parts: int) -> tuple[Tensor, Tensor]:
    """Accumulation over ``parts`` micro-batches in the window form."""
    net, rule = Net(), b.InverseGradNorm()
    wrapped = DistributedDataParallel(net) if world_size() > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kept = []
    for step in range(STEPS):
        x, y, mask = batch(step)
        pieces = [(x[i::parts], y[i::parts], mask[i::parts]) for i in range(parts)]
        optimizer.zero_grad()
        fan = window_backward(
            pieces,
            rule,
            tasks=TASKS,
            encode=lambda rows: wrapped(rows[0]),
            heads=lambda views, rows: losses_of(net, views, rows),
            backward=lambda loss, i: (loss + touch(net)).backward(),
        )
        optimizer.step()
        kept.append(fan.weights)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), torch.stack(kept)


def naive_encoding_run(name: str, what: str) -> tuple[Tensor, Tensor]:
    """Negative control: the same run with averaged Grams, or with each rank's own Gram and weights."""
    from importlib import import_module

    def wrong(rows: Sequence[Tensor], scale: Tensor) -> Tensor:
        local = gram_matrix(torch.stack(list(rows))) / float(scale) ** 2
        return reductions.sum_ranks(local) / world_size() if what == "gram" else local

    with mock.patch.object(import_module("kexue_pl.gradients.fan_out"), "joint_gram", wrong):
        return encoding_run(name)


def naive_parameter_run(name: str, what: str) -> tuple[Tensor, Tensor]:
    """The same at the parameters: the ranks' rows are not averaged before their Gram is taken."""
    net, rule = Net(), FACTS[name].make()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    shared, kept = list(net.trunk.parameters()), []
    for step in range(STEPS):
        losses, counts = losses_of(net, [net.trunk(batch(step)[0])] * TASKS, batch(step))
        reduced = global_losses(losses, counts)
        rows = torch.stack(
            [
                torch.cat([p.new_zeros(p.numel()) for p in shared])
                if term is None
                else torch.cat(
                    [g.flatten() for g in torch.autograd.grad(term, shared, retain_graph=True)]
                )
                for term in reduced.terms
            ]
        )
        optimizer.zero_grad()
        total = reduced.total()
        assert total is not None
        (total + touch(net)).backward()
        gram = gram_matrix(rows)
        if what == "gram":
            gram = reductions.sum_ranks(gram) / world_size()
        weights = rule.weights(gram, reduced.values)
        update = reductions.sum_ranks(weights @ rows) / world_size()
        start = 0
        for p in shared:
            p.grad = update[start : start + p.numel()].view_as(p)
            start += p.numel()
        for p in net.heads.parameters():
            assert p.grad is not None
            p.grad = reductions.sum_ranks(p.grad) / world_size()
        optimizer.step()
        kept.append(weights)
    return torch.cat([p.detach().flatten() for p in net.parameters()]), torch.stack(kept)


@cache
def results() -> tuple[list[dict[str, tuple[Tensor, Tensor]]], dict[str, tuple[Tensor, Tensor]]]:
    return run_ranks(both_levels, 2), both_levels(0, 1)


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize("name", [*RULES, "graddrop"])
def test_two_ranks_equal_one_process(level: str, name: str) -> None:
    if name == "graddrop" and level == "encoding":
        pytest.skip("refused at the encoding level")
    two, one = results()
    key = f"{level} {name}"
    for part in range(2):
        assert torch.equal(two[0][key][part], two[1][key][part])
        scale = float(one[key][part].abs().max().clamp(min=1))
        assert float((two[0][key][part] - one[key][part]).abs().max()) <= 1e-6 * scale
    assert bool(one[key][0].isfinite().all())


@pytest.mark.parametrize("name", LONG)
def test_fifty_steps_keep_the_ranks_identical(name: str) -> None:
    two, one = results()
    for level in ("encoding", "parameters"):
        key = f"long {level} {name}"
        if key in one:
            assert torch.equal(two[0][key][0], two[1][key][0])
            torch.testing.assert_close(two[0][key][0], one[key][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("level", ["encoding", "parameters"])
@pytest.mark.parametrize(("what", "name"), NAIVE)
def test_naive_reductions_fail_the_same_comparison(what: str, name: str, level: str) -> None:
    """Ten steps as above; one process passes the comparison even so, since there they are right."""
    two, one = results()
    key, right = f"naive {level} {what} {name}", one[f"{level} {name}"]
    torch.testing.assert_close(one[key][1], right[1], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(one[key][0], right[0], atol=1e-6, rtol=0)
    if (level, what, name) == ("encoding", "gram", "mgda"):
        # At the encoding the averaged Gram is the right one times the number of ranks, which a rule
        # of degree 1 does not see.
        torch.testing.assert_close(two[0][key][1], right[1], atol=1e-6, rtol=1e-6)
        return
    assert float((two[0][key][1] - right[1]).abs().max()) > 1e-2
    start = torch.cat([p.detach().flatten() for p in Net().parameters()])
    moved = float((right[0] - start).norm())
    assert float((two[0][key][0] - right[0]).norm()) > 1e-2 * moved


def test_window_form_equals_the_big_batch_on_one_and_two_ranks() -> None:
    two, one = results()
    big = encoding_run("inverse_grad_norm")
    for got in (one["window"], two[0]["window"]):
        torch.testing.assert_close(got[0], big[0], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(got[1], big[1], atol=1e-9, rtol=1e-9)


def test_every_exported_rule_is_compared() -> None:
    rules = {
        name
        for name in b.__all__
        if isinstance(getattr(b, name), type) and issubclass(getattr(b, name), b.Balancer)
    }
    compared = {type(FACTS[name].make()).__name__ for name in RULES} | {"GradDrop"}
    assert rules - {"Balancer"} == compared
