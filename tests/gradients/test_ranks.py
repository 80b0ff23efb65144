"""Two ranks equal one process on the joint batch, for every rule and both levels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kexue_pl import balancers as b
from kexue_pl.distributed import rank as my_rank
from kexue_pl.distributed import world_size
from kexue_pl.gradients import fan_out, gram_matrix, task_gradients, window_backward
from kexue_pl.gradients import ranks as reductions
from tests.balancers.rules import FACTS
from tests.support.ranks import run_ranks

TASKS, BATCH, STEPS = 4, 16, 10
RULES = [name for name in FACTS if not FACTS[name].make().needs_matrix]


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
    out["naive gram"] = naive_run("gram")
    out["naive weights"] = naive_run("weights")
    out["long"] = encoding_run("mgda", steps=50)
    out["long parameters"] = parameter_run("mgda", steps=50)
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


def naive_run(what: str) -> tuple[Tensor, Tensor]:
    """Negative control: averaged local Grams or local weights of the parameter gradients."""
    net, rule = Net(), b.MGDA()
    kept = []
    for step in range(STEPS):
        rows = batch(step)
        losses, _ = losses_of(
            net, [net.trunk(rows[0])] * TASKS, (rows[0], rows[1], torch.ones_like(rows[2]))
        )
        shared = list(net.trunk.parameters())
        grads = [torch.autograd.grad(x, shared, retain_graph=True) for x in losses if x is not None]
        gram = gram_matrix(torch.stack([torch.cat([g.flatten() for g in row]) for row in grads]))
        if what == "gram":
            gram = reductions.sum_ranks(gram) / world_size()
        kept.append(rule.weights(gram))
    return torch.zeros(1), torch.stack(kept)


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


def test_fifty_steps_keep_the_ranks_identical() -> None:
    two, one = results()
    for key in ("long", "long parameters"):
        assert torch.equal(two[0][key][0], two[1][key][0])
        torch.testing.assert_close(two[0][key][0], one[key][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("what", ["gram", "weights"])
def test_naive_reductions_fail_the_same_comparison(what: str) -> None:
    two, one = results()
    assert float((two[0][f"naive {what}"][1] - one[f"naive {what}"][1]).abs().max()) > 1e-2


def test_window_form_equals_the_big_batch_on_one_and_two_ranks() -> None:
    two, one = results()
    big = encoding_run("inverse_grad_norm")
    for got in (one["window"], two[0]["window"]):
        torch.testing.assert_close(got[0], big[0], atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(got[1], big[1], atol=1e-9, rtol=1e-9)
