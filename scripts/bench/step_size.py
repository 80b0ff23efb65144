"""What EGStepSize costs a step: AdamW over 10 million parameters in 193 tensors.

    python scripts/bench/step_size.py --repeats 20

Prints the time of one optimizer step (minimum of the repeats, one thread) with and without the
callback's hooks, the ratio, and the memory that is added in copies of the parameters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from kexue_pl.optim import EGStepSize

LAYER = [(256, 256)] * 4 + [(256,)] * 4 + [(1024, 256), (1024,), (256, 1024), (256,)] + [(256,)] * 4
SHAPES: list[tuple[int, ...]] = [(2048, 256), *LAYER * 12]
MODES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "global": {"scale": "global"},
    "tensor": {"scale": "tensor"},
    "global, signal update": {"scale": "global", "signal": "update"},
    "global + gain": {"scale": "global", "gain": "coordinate"},
}
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-5, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-5, fused=True),
}


def best(step: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of processor time, the minimum: other programs do not count."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        step()
        times.append(time.thread_time() - start)
    return 1e3 * min(times)


def added_copies(optimizer: Optimizer) -> float:
    """Elements of the state the callback added, in numbers of parameters."""
    total = sum(p.numel() for g in optimizer.param_groups for p in g["params"])
    mine = sum(
        value.numel()
        for state in optimizer.state.values()
        for name, value in state.items()
        if name.startswith("eg_")
    )
    return mine / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| optimizer | mode | ms a step | x bare | state added |")
    print("|---|---|---|---|---|")
    for name in arguments.optimizers:
        bare = None
        for mode in dict.fromkeys(["none", *arguments.modes]):
            parameters = [nn.Parameter(torch.randn(shape) * 0.02) for shape in SHAPES]
            for p in parameters:
                p.grad = torch.randn_like(p) * 1e-3
            optimizer, settings = OPTIMIZERS[name](parameters), MODES[mode]
            if settings is not None:
                EGStepSize(scale_lr=1e-3, gain_lr=1e-3, **settings).attach(optimizer)
            for _ in range(3):
                optimizer.step()
            spent = best(optimizer.step, arguments.repeats)
            bare = spent if bare is None else bare
            copies = added_copies(optimizer)
            print(
                f"| {name} | {mode} | {spent:.1f} | {spent / bare:.2f} | {copies:.1f} N |",
                flush=True,
            )


if __name__ == "__main__":
    main()
