"""Step time of balanced multi-task training beside TorchJD and a loop of T backwards, in one process.

    python scripts/bench/multitask.py --tasks 2 4 8 --steps 12 --runs 3

Median CPU time of a training step (forward, backward, solver, SGD) over the steps of each run, as a
ratio to the plain summed loss; the median over the runs is printed. The model is an MLP 256-512-512-256
with linear heads, batch 128, one thread. `encoding` answers another question (an upper bound of the
exact problem), so it is compared with the plain step only.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from kexue_pl.balancers import MGDA, Equal
from kexue_pl.gradients import fan_out, task_gradients

Step = Callable[[], None]


class Problem:
    """A trunk, T heads and one batch."""

    def __init__(self, tasks: int) -> None:
        torch.manual_seed(0)
        sizes = [256, 512, 512, 256]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(256, 10) for _ in range(tasks))
        self.x = torch.randn(128, 256)
        self.y = torch.randint(0, 10, (tasks, 128))
        parameters = [*self.trunk.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3)

    def losses(self, views: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
        """Cross-entropies of the heads."""
        rows = zip(self.heads, views, self.y)
        return [nn.functional.cross_entropy(head(view), y) for head, view, y in rows]

    def plain(self) -> None:
        """The summed loss."""
        self.optimizer.zero_grad()
        z = self.trunk(self.x)
        torch.stack(self.losses([z] * len(self.heads))).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def encoding(self) -> None:
        """Min-norm at the shared encoding."""
        self.optimizer.zero_grad()
        fan = fan_out(self.trunk(self.x), MGDA(), tasks=len(self.heads))
        fan.join(self.losses(fan.views)).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def parameters(self, chunk: int = 1) -> None:
        """Exact min-norm at the trunk's parameters."""
        tasks = len(self.heads)
        fan = fan_out(self.trunk(self.x), Equal(), tasks=tasks)
        own = [list(head.parameters()) for head in self.heads]
        shared = list(self.trunk.parameters())
        found = task_gradients(self.losses(fan.views), shared, own=own, fan=fan, chunk=chunk)
        update, _ = found.combine(MGDA())
        found.assign(update)
        self.optimizer.step()

    def backwards(self) -> None:
        """One whole backward a task, uniform weights: the loop of most libraries, without a solver."""
        shared = list(self.trunk.parameters())
        self.optimizer.zero_grad()
        losses = self.losses([self.trunk(self.x)] * len(self.heads))
        rows = []
        for loss in losses:
            grads = torch.autograd.grad(loss, shared, retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in grads]))
        torch.stack(rows).sum(0)
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def torchjd(self) -> None:
        """TorchJD's jac_to_grad with its MGDA at defaults."""
        from torchjd.aggregation import MGDA as PeerMGDA
        from torchjd.autojac import jac_to_grad, mtl_backward

        self.optimizer.zero_grad()
        z = self.trunk(self.x)
        mtl_backward(self.losses([z] * len(self.heads)), features=z)
        jac_to_grad(self.trunk.parameters(), PeerMGDA())
        self.optimizer.step()


def cpu_time(step: Step, steps: int) -> float:
    """Median CPU seconds of a step after three to warm up."""
    for _ in range(3):
        step()
    found = []
    for _ in range(steps):
        start = time.process_time()
        step()
        found.append(time.process_time() - start)
    return median(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| T | encoding | parameters | parameters, batched | T backwards | TorchJD MGDA |")
    print("|---|---|---|---|---|---|")
    for tasks in given.tasks:
        problem = Problem(tasks)
        steps: list[Step] = [
            problem.plain,
            problem.encoding,
            problem.parameters,
            lambda p=problem, t=tasks: p.parameters(t),  # type: ignore[misc]
            problem.backwards,
            problem.torchjd,
        ]
        runs = [[cpu_time(step, given.steps) for step in steps] for _ in range(given.runs)]
        ratios = [median(run[i] / run[0] for run in runs) for i in range(1, len(steps))]
        print(f"| {tasks} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |", flush=True)


if __name__ == "__main__":
    main()
