"""Article 8796: the inequality between input and parameter gradients on thousands of networks.

    python scripts/articles/inequality.py --nets 4600 --out inequality

Part 1 compares both sides in float64 on random networks, in every form, and counts violations.
Part 2 shows the forms that do not hold. Part 3 trains on scikit-learn's digits with and without
each penalty and follows both sides. With --out a table, a CSV file and two plots are written.
"""

from __future__ import annotations

import argparse
import csv
import math
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.penalties import (
    InputGradient,
    ParameterGradient,
    Penalty,
    gradient_penalty_bound,
    gradient_penalty_bounds,
)
from kexue_pl.penalties.bound import FORMS

Loss = Callable[[Tensor], Tensor]


class Sine(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return torch.sin(z)


ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    nn.Tanh,
    nn.GELU,
    Sine,
    nn.Softplus,
    nn.SiLU,
    lambda: nn.LeakyReLU(0.1),
    nn.Sigmoid,
    nn.Identity,
    nn.ELU,
    nn.Hardtanh,
]


def random_net(seed: int) -> tuple[nn.Sequential, Tensor, Loss]:
    """A network of depth 1 to 6, widths 1 to 64, weights scaled by 10^(-1.5 .. 1.5)."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    depth = rng.randint(1, 6)
    sizes = [rng.choice([1, 2, 4, 8, 16, 32, 64]) for _ in range(depth + 1)]
    activation, std = rng.choice(ACTIVATIONS), 10 ** rng.uniform(-1.5, 1.5)
    biased = rng.random() < 0.7
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(pairwise(sizes)):
        linear = nn.Linear(a, b, bias=biased).double()
        nn.init.normal_(linear.weight, std=std / math.sqrt(a))
        layers += [linear, activation()] if index < depth - 1 else [linear]
    x = torch.randn(1, sizes[0], dtype=torch.float64) * 10 ** rng.uniform(-1, 1)
    label = torch.tensor([rng.randrange(sizes[-1])])
    losses: dict[str, Loss] = {
        "cross entropy": lambda z: F.cross_entropy(z, label, reduction="none"),
        "squared error": lambda z: (z - 1).square().sum(1),
        "logit": lambda z: z[:, int(label)],
    }
    return nn.Sequential(*layers), x, losses[rng.choice(list(losses))]


def compare(nets: int) -> tuple[list[dict[str, float]], dict[str, list[float]]]:
    """A row of quantiles and violations a form, and all ratios."""
    ratios: dict[str, list[float]] = {form: [] for form in FORMS}
    for seed in range(nets):
        net, x, loss = random_net(seed)
        for form, bound in gradient_penalty_bounds(net, x, loss).items():
            sound = bound.input_square > 1e-280 and 1e-280 < bound.upper < math.inf
            if sound:
                ratios[form].append(bound.ratio.item())
    rows = []
    for form, values in ratios.items():
        v = torch.tensor(values, dtype=torch.float64)
        q = v.quantile(torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99], dtype=torch.float64))
        rows.append(
            {
                "form": form,
                "compared": len(values),
                "violations": int((v > 1 + 1e-12).sum()),
                "max - 1": v.max().item() - 1,
                **{f"q{p}": q[i].item() for i, p in enumerate((1, 25, 50, 75, 99))},
            }
        )
    return rows, ratios


def batch_mean(trials: int) -> tuple[int, float]:
    """How often, and how far, the gradient of a batch's MEAN loss breaks the inequality."""
    broken, worst = 0, 0.0
    for seed in range(trials):
        rng = random.Random(seed)
        torch.manual_seed(seed)
        width, depth = rng.choice([4, 8, 16]), rng.randint(1, 3)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(width, width), nn.Tanh()]
        net = nn.Sequential(*layers, nn.Linear(width, 3)).double()
        x, y = torch.randn(8, width, dtype=torch.float64), torch.randint(0, 3, (8,))
        lower, _ = gradient_penalty_bound(
            net, x, lambda z, y=y: F.cross_entropy(z, y, reduction="none")
        ).mean()
        found = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
        ratio = lower / sum(g.square().sum().item() for g in found)
        broken, worst = broken + (ratio > 1 + 1e-9), max(worst, ratio)
    return broken, worst


def curves(penalty: Penalty | None, epochs: int) -> list[dict[str, float]]:
    """Both sides and the losses while plain SGD trains on digits."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1437], order[1437:]
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Identity(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    g, rows, probe = torch.Generator().manual_seed(0), [], train[:256]

    def probed(z: Tensor) -> Tensor:
        return F.cross_entropy(z, y[probe], reduction="none")

    for epoch in range(epochs):
        for part in torch.randperm(len(train), generator=g).split(64):
            mine = train[part]

            def closure(mine: Tensor = mine) -> Tensor:
                return F.cross_entropy(net(x[mine]), y[mine])

            sgd.zero_grad()
            if penalty is None:
                closure().backward()
            else:
                penalty.loss(
                    closure, parameters=list(net.parameters()), embeddings=net[0]
                ).backward()
            sgd.step()
        lower, upper = gradient_penalty_bound(net, x[probe], probed, form="product").mean()
        with torch.no_grad():
            accuracy = (net(x[test]).argmax(1) == y[test]).float().mean().item()
            loss = F.cross_entropy(net(x[train]), y[train]).item()
        rows.append(
            {"epoch": epoch + 1, "lower": lower, "upper": upper, "loss": loss, "accuracy": accuracy}
        )
    return rows


PENALTIES: dict[str, Callable[[], Penalty | None]] = {
    "none": lambda: None,
    "input_gradient": lambda: InputGradient(weight=0.01),
    "parameter_gradient, sample": lambda: ParameterGradient(weight=0.01, reduction="sample"),
    "parameter_gradient, batch": lambda: ParameterGradient(weight=0.1),
}


def draw(
    ratios: dict[str, list[float]], paths: dict[str, list[dict[str, float]]], out: Path
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axis = figure.subplots()
    bins = torch.linspace(-6, 0.25, 60).tolist()
    for form, values in ratios.items():
        logs = [math.log10(max(v, 1e-6)) for v in values]
        axis.hist(logs, bins=bins, histtype="step", label=form)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set(xlabel="log10 of left side / right side (0 = tight)", ylabel="networks")
    axis.legend()
    figure.savefig(out / "slack.png", dpi=120)
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rows in paths.items():
        epochs = [r["epoch"] for r in rows]
        (line,) = left.plot(epochs, [r["upper"] for r in rows], label=name)
        left.plot(epochs, [r["lower"] for r in rows], linestyle=":", color=line.get_color())
        right.plot(epochs, [r["accuracy"] for r in rows], color=line.get_color())
    left.set(yscale="log", xlabel="epoch", ylabel="upper side, lower side dotted")
    right.set(xlabel="epoch", ylabel="test accuracy")
    left.legend(fontsize="small")
    figure.savefig(out / "curves.png", dpi=120)


def report(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of the rows."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        cells = [f"{v:.2g}" if isinstance(v, float) else str(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=int, default=4600)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, help="folder for inequality.md, .csv and plots")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, ratios = compare(arguments.nets)
    broken, worst = batch_mean(arguments.nets // 20)
    paths = {name: curves(make(), arguments.epochs) for name, make in PENALTIES.items()}
    last = [{"penalty": name, **path[-1]} for name, path in paths.items()]
    text = "\n\n".join(
        [
            report(rows),
            f"Gradient of the batch's mean loss on the right: broken {broken} of "
            f"{arguments.nets // 20} times, worst ratio {worst:.2g}.",
            report(last),
        ]
    )
    print(text)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "inequality.md").write_text(text + "\n", encoding="utf-8")
        with (arguments.out / "inequality.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        draw(ratios, paths, arguments.out)


if __name__ == "__main__":
    main()
