"""What EGStepSize costs a step: AdamW over 10 million parameters in 193 tensors.

    python scripts/bench/step_size.py --repeats 20

Prints the time of one optimizer step (minimum of the repeats, one thread) with and without the
callback's hooks, the ratio, and the memory that is added in copies of the parameters. With
--transformer instead the whole training step (forward, backward, AdamW) of a BERT of 4 layers of
width 128 (1.3 million parameters, 16 rows of 64 tokens).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
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
    "global, fused": {"scale": "global", "fused": True},
    "global + gain, fused": {"scale": "global", "gain": "coordinate", "fused": True},
}
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-4, momentum=0.9, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-5, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-5, fused=True),
}


def alternate(steps: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Milliseconds of processor time of each, the minimum: other programs do not count.

    They take turns, so that a machine that is slower for a while is so for all of them.
    """
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats):
        for step, spent in zip(steps, times, strict=True):
            start = time.thread_time()
            step()
            spent.append(time.thread_time() - start)
    return [1e3 * min(spent) for spent in times]


def prepared(name: str, mode: str) -> Optimizer:
    """An optimizer over new parameters with gradients, stepped three times."""
    parameters = [nn.Parameter(torch.randn(shape) * 0.02) for shape in SHAPES]
    for p in parameters:
        p.grad = torch.randn_like(p) * 1e-3
    optimizer, settings = OPTIMIZERS[name](parameters), MODES[mode]
    if settings is not None:
        EGStepSize(scale_lr=1e-3, gain_lr=1e-3, **settings).attach(optimizer)
    for _ in range(3):
        optimizer.step()
    return optimizer


def transformer(modes: Sequence[str], repeats: int) -> None:
    """Print what the modes add to a whole training step.

    Their optimizers take turns on the same network and gradients; only these steps are compared,
    because the time of a forward and backward varies by more than they add.
    """
    from transformers import BertConfig, BertForSequenceClassification

    # Backward runs on this thread, so that its time is counted.
    torch.autograd.set_multithreading_enabled(False)
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_attention_heads": 4}
    config = BertConfig(num_hidden_layers=4, vocab_size=4000, max_position_embeddings=64, **sizes)
    net = BertForSequenceClassification(config)
    ids, labels = torch.randint(1, 4000, (16, 64)), torch.randint(0, 2, (16,))

    def backward() -> None:
        net.zero_grad()
        net(input_ids=ids, labels=labels).loss.backward()

    names, steps = ["none", *(mode for mode in modes if mode != "none")], []
    for name in names:
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-5, foreach=True)
        settings = MODES[name]
        if settings is not None:
            EGStepSize(scale_lr=1e-3, gain_lr=1e-3, **settings).attach(optimizer)
        steps.append(optimizer.step)
    alternate([backward, *steps], 3)
    before, bare, *spent = alternate([backward, *steps], repeats)
    print("| training step of a transformer | ms of the optimizer | of the whole step | added |")
    print("|---|---|---|---|")
    for name, ms in zip(names, [bare, *spent], strict=True):
        added = (ms - bare) / (before + bare)
        print(f"| {name} | {ms:.1f} | {before + ms:.1f} | {100 * added:.1f} % |")


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
    parser.add_argument("--transformer", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.transformer:
        transformer(arguments.modes, arguments.repeats)
        return
    print("| optimizer | mode | bare ms | ms a step | x bare | state added |")
    print("|---|---|---|---|---|---|")
    for name in arguments.optimizers:
        bare = prepared(name, "none")
        for mode in arguments.modes:
            if mode == "none":
                continue
            adapted = prepared(name, mode)
            alone, spent = alternate([bare.step, adapted.step], arguments.repeats)
            copies = added_copies(adapted)
            print(
                f"| {name} | {mode} | {alone:.1f} | {spent:.1f} | {spent / alone:.2f} | "
                f"{copies:.1f} N |",
                flush=True,
            )


if __name__ == "__main__":
    main()
