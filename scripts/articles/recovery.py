"""Article 8968: what an adaptive step size recovers from a wrong learning rate, on real digits.

    python scripts/articles/recovery.py --seeds 3 --factors 0.01 1 100 --out recovery

Trains two small networks on scikit-learn's digits with the base rate times each factor, with and
without EGStepSize, and prints final training loss and test accuracy, mean over seeds. Runs that
ended no better than a uniform guess (loss over 0.99 ln 10, or not finite) are counted: "2!".
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import Optimizer

from kexue_pl.optim import EGStepSize

NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(64, 10),
    "mlp": lambda: nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    ),
}
OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], Optimizer]] = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.01),
}
BASE = {
    ("linear", "sgd"): 1.0,
    ("linear", "momentum"): 0.1,
    ("linear", "adamw"): 0.01,
    ("mlp", "sgd"): 0.3,
    ("mlp", "momentum"): 0.03,
    ("mlp", "adamw"): 0.003,
}
MODES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "global": {"scale": "global"},
    "tensor": {"scale": "tensor"},
    "gain": {"scale": "none", "gain": "coordinate"},
    "global+gain": {"scale": "global", "gain": "coordinate"},
}
BATCH = 64


def data() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(train, test) digits in [0, 1], 1437 and 360 of them, always the same split."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    return (images[train], labels[train]), (images[test], labels[test])


def run(
    net_name: str,
    optimizer_name: str,
    lr: float,
    mode: dict[str, Any] | None,
    seed: int,
    epochs: int,
) -> dict[str, float]:
    """Final loss, accuracy (percent) and scale of one training."""
    (x, y), (test_x, test_y) = data()
    torch.manual_seed(seed)
    net = NETS[net_name]()
    optimizer = OPTIMIZERS[optimizer_name](net.parameters(), lr)
    steps = epochs * math.ceil(len(x) / BATCH)
    attached = None if mode is None else EGStepSize(**mode).attach(optimizer, horizon=steps)
    g = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=g).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        loss = F.cross_entropy(net(x), y).item()
        accuracy = (net(test_x).argmax(1) == test_y).float().mean().item()
    scale = 1.0 if attached is None else attached.readings()["scale"]
    return {"loss": loss, "accuracy": 100 * accuracy, "scale": scale, "steps": steps}


def table(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a network, optimizer, factor and mode: means over the seeds."""
    rows = []
    cells = itertools.product(arguments.nets, arguments.optimizers, arguments.factors)
    for net, optimizer, factor in cells:
        for mode in arguments.modes:
            lr = BASE[net, optimizer] * factor
            runs = [
                run(net, optimizer, lr, MODES[mode], seed, arguments.epochs)
                for seed in range(arguments.seeds)
            ]
            losses = torch.tensor([r["loss"] for r in runs], dtype=torch.float64)
            bad = sum(not r["loss"] < 0.99 * math.log(10) for r in runs)
            rows.append(
                {
                    "net": net,
                    "optimizer": optimizer,
                    "factor": factor,
                    "mode": mode,
                    "loss": losses.mean().item(),
                    "loss_std": losses.std(correction=0).item(),
                    "accuracy": sum(r["accuracy"] for r in runs) / len(runs),
                    "scale": sum(r["scale"] for r in runs) / len(runs),
                    "lost": bad,
                    "steps": int(runs[0]["steps"]),
                }
            )
    return rows


def markdown(rows: list[dict[str, Any]], modes: list[str]) -> str:
    """loss / accuracy by mode; `3!` says that three seeds ended no better than guessing."""
    lines = [
        "| net | optimizer | lr x | " + " | ".join(modes) + " |",
        "|---|---|---|" + "---|" * len(modes),
    ]
    for key, group in itertools.groupby(rows, lambda r: (r["net"], r["optimizer"], r["factor"])):
        cells = [
            f"{r['loss']:.3g} / {r['accuracy']:.1f}" + (f" {r['lost']}!" if r["lost"] else "")
            for r in group
        ]
        lines.append("| " + " | ".join([key[0], key[1], f"{key[2]:g}", *cells]) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Final loss over the factor, a line a mode, a panel a network and optimizer."""
    from matplotlib.figure import Figure

    panels = sorted({(r["net"], r["optimizer"]) for r in rows})
    figure = Figure(figsize=(3.2 * len(panels), 3), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for mode in dict.fromkeys(r["mode"] for r in rows):
            mine = [r for r in rows if (r["net"], r["optimizer"], r["mode"]) == (*panel, mode)]
            axis.plot(
                [r["factor"] for r in mine],
                [min(r["loss"], 100.0) for r in mine],
                marker="o",
                label=mode,
            )
        axis.axhline(math.log(10), color="grey", linewidth=0.5)
        axis.set(xscale="log", yscale="log", title=" ".join(panel), xlabel="rate / base rate")
    axes[0].set_ylabel("final training loss")
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20, help="of 23 steps each")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument(
        "--optimizers", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS)
    )
    parser.add_argument("--factors", nargs="+", type=float, default=[0.01, 0.1, 1, 10, 100])
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=list(MODES))
    parser.add_argument("--out", type=Path, help="folder for recovery.csv, .md and .png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = table(arguments)
    text = markdown(rows, arguments.modes)
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with (arguments.out / "recovery.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        (arguments.out / "recovery.md").write_text(text + "\n", encoding="utf-8")
        draw(rows, arguments.out / "recovery.png")


if __name__ == "__main__":
    main()
