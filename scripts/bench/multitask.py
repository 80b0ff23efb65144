"""Step time and memory of balanced multi-task training beside LibMTL and TorchJD, in one process.

    python scripts/bench/multitask.py --tasks 2 4 8 --steps 15 --runs 3

Each step is forward, backward, solver and SGD on one thread. The schemes take turns step by step, so a
slow moment of the machine meets all of them; the median CPU time of a run is divided by that of the
plain summed loss, and the median over the runs is printed. Problems: an MLP 256-512-512-256 at batch
128, and a transformer of 4 layers, width 128, over 16 x 32 tokens; the heads are linear.

`encoding` and LibMTL's `rep_grad` answer another question (an upper bound of the exact problem) than
the others. LibMTL and TorchJD are left out where they are not installed. Memory is the peak resident
set of a forked process for each scheme above what it held before its first step.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from kexue_pl.balancers import MGDA, Equal
from kexue_pl.gradients import fan_out, task_gradients
from kexue_pl.testing.memory import highest_memory, watch_memory

Step = Callable[[], None]
PLAIN = "plain"


def make_trunk(kind: str) -> tuple[nn.Module, Tensor, int]:
    """Trunk (input to one vector a row), its input and its width."""
    if kind == "mlp":
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise([256, 512, 512, 256]):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers), torch.randn(128, 256), 256
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return body, torch.randn(16, 32, 128), 128


class Problem:
    """A trunk, T heads, one batch, and the steps to compare."""

    def __init__(self, kind: str, tasks: int) -> None:
        torch.manual_seed(0)
        self.trunk, self.x, width = make_trunk(kind)
        self.heads = nn.ModuleList(nn.Linear(width, 10) for _ in range(tasks))
        self.y = torch.randint(0, 10, (tasks, *self.x.shape[:-1])).flatten(1)
        parameters = [*self.trunk.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3)

    def losses(self, views: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
        """Cross-entropies of the heads."""
        rows = zip(self.heads, views, self.y)
        return [nn.functional.cross_entropy(head(view).flatten(0, -2), y) for head, view, y in rows]

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
        self.optimizer.zero_grad()
        fan = fan_out(self.trunk(self.x), Equal(), tasks=tasks)
        own = [list(head.parameters()) for head in self.heads]
        shared = list(self.trunk.parameters())
        found = task_gradients(self.losses(fan.views), shared, own=own, fan=fan, chunk=chunk)
        update, _ = found.combine(MGDA())
        found.assign(update)
        self.optimizer.step()

    def batched(self) -> None:
        """The same, all tasks through the trunk at once."""
        self.parameters(len(self.heads))

    def autojac(self) -> None:
        """TorchJD's autojac with its MGDA at defaults."""
        from torchjd.aggregation import MGDA as PeerMGDA
        from torchjd.autojac import jac_to_grad, mtl_backward

        self.optimizer.zero_grad()
        z = self.trunk(self.x)
        mtl_backward(self.losses([z] * len(self.heads)), features=z)
        jac_to_grad(self.trunk.parameters(), PeerMGDA())
        self.optimizer.step()

    def autogram(self) -> None:
        """TorchJD's autogram with its MGDA at defaults."""
        from torchjd.aggregation import MGDAWeighting
        from torchjd.autogram import Engine

        if not hasattr(self, "engine"):
            self.engine = Engine(self.trunk, batch_dim=None)
        self.optimizer.zero_grad()
        losses = torch.stack(self.losses([self.trunk(self.x)] * len(self.heads)))
        losses.backward(MGDAWeighting()(self.engine.compute_gramian(losses)))  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def libmtl(self, rep_grad: bool = False) -> None:
        """LibMTL's loop of T backwards with its MGDA."""
        self.optimizer.zero_grad()
        z = self.trunk(self.x)
        peer = libmtl_rule("MGDA", list(self.trunk.parameters()), len(self.heads))
        views = [z] * len(self.heads)
        if rep_grad:
            views = [z.detach().clone().requires_grad_() for _ in self.heads]
            peer.rep_grad, peer.rep, peer.rep_tasks = True, z, dict(enumerate(views))
        peer.backward(torch.stack(self.losses(views)), mgda_gn="none")
        self.optimizer.step()

    def libmtl_rep(self) -> None:
        """The same at the encoding (`rep_grad`)."""
        self.libmtl(rep_grad=True)


def libmtl_rule(name: str, shared: list[nn.Parameter], tasks: int) -> Any:
    """A weighting of LibMTL, set up as its trainer does; no part of its package but the rule is loaded
    (the whole asks for a torchvision of its time).

    Raises:
        ModuleNotFoundError: LibMTL is not installed.
    """
    import importlib.machinery
    import importlib.util
    import sys

    if "LibMTL" not in sys.modules:
        spec = importlib.util.find_spec("LibMTL")
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError("LibMTL")
        for part in ("LibMTL", "LibMTL.weighting"):
            own = importlib.machinery.ModuleSpec(part, None, is_package=True)
            module = importlib.util.module_from_spec(own)
            tail = part.split(".")[1:]
            module.__path__ = [os.path.join(spec.submodule_search_locations[0], *tail)]
            sys.modules[part] = module
    rule: Any = getattr(importlib.import_module(f"LibMTL.weighting.{name}"), name)()
    rule.task_num, rule.task_name, rule.device = tasks, list(range(tasks)), shared[0].device
    rule.rep_grad, rule.epoch = False, 1
    rule.get_share_params = lambda: iter(shared)

    def clear() -> None:
        for p in shared:
            if p.grad is not None:
                p.grad.zero_()

    rule.zero_grad_share_params = clear
    return rule


def schemes(problem: Problem) -> dict[str, Step]:
    """What can be compared with what is installed."""
    from importlib.util import find_spec

    out: dict[str, Step] = {
        PLAIN: problem.plain,
        "encoding": problem.encoding,
        "parameters": problem.parameters,
        "parameters, batched": problem.batched,
    }
    if find_spec("torchjd"):
        out |= {"TorchJD autojac": problem.autojac, "TorchJD autogram": problem.autogram}
    if find_spec("LibMTL"):
        out |= {"LibMTL loop": problem.libmtl, "LibMTL rep_grad": problem.libmtl_rep}
    return out


def ratios(kind: str, tasks: int, steps: int, runs: int) -> dict[str, float]:
    """CPU time of each scheme over that of the plain step."""
    chosen = schemes(Problem(kind, tasks))
    problems = {name: schemes(Problem(kind, tasks))[name] for name in chosen}
    found: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(runs):
        times: dict[str, list[float]] = {name: [] for name in chosen}
        for number in range(steps + 3):
            for name, step in problems.items():
                start = time.process_time()
                step()
                if number >= 3:  # the first ones warm up
                    times[name].append(time.process_time() - start)
        for name in chosen:
            found[name].append(median(times[name]) / median(times[PLAIN]))
    return {name: median(values) for name, values in found.items()}


def peaks(kind: str, tasks: int) -> dict[str, float]:
    """Peak resident MiB of each scheme above the start, in forked processes (Linux)."""
    for step in schemes(Problem("mlp", 2)).values():
        step()  # libraries loaded
    problem = Problem(kind, tasks)
    out = {}
    for name, step in schemes(problem).items():
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).malloc_trim(0)
            start = watch_memory()
            step()
            step()
            os.write(write, f"{highest_memory() - start:.0f}".encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(write)
        out[name] = float(os.read(read, 20).decode() or "nan")
        os.close(read)
    return out


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kinds", nargs="+", default=["mlp", "transformer"])
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = list(schemes(Problem("mlp", 2)))
    head = "| " + " | ".join(["model, T", *names]) + " |\n" + "|---" * (len(names) + 1) + "|"
    cases = list(itertools.product(given.kinds, given.tasks))
    # Memory first: a heap that timings have grown would hide what a scheme asks for.
    print("peak memory, MiB above the start\n\n" + head, flush=True)
    for kind, tasks in cases:
        peak = peaks(kind, tasks)
        print(
            f"| {kind}, {tasks} | " + " | ".join(f"{peak[n]:.0f}" for n in names) + " |", flush=True
        )
    print("\nstep time over the plain step\n\n" + head, flush=True)
    for kind, tasks in cases:
        row = ratios(kind, tasks, given.steps, given.runs)
        print(
            f"| {kind}, {tasks} | " + " | ".join(f"{row[n]:.2f}" for n in names) + " |", flush=True
        )


if __name__ == "__main__":
    main()
