"""Articles 8870, 8896, 8907: what tells balancing rules apart, with the learning rate tuned per rule.

    python scripts/articles/balancers.py --tune --seeds 3 --out outputs/balancers

Cases on real overlapping digits: `plain`, `scale` (the second loss times 100), `shift` (plus 5), `noise`
(600 images, the second task's labels are random and its loss counts ten times); and the problems with a
known front, `toy` (100000 steps of Adam, as published) and `quadratics`. On the digits a training is what
`python train.py experiment=8870_losses` (scale), `8896_gradients` (scale), `8907_primary` (noise) does with
`task.level=parameters`: SGD with momentum, 600 steps, the weights of the best validation are tested. With
--tune each rule's rate is chosen on the validation rows of another seed (100), from one grid for all;
without it 0.01 is used. Prints Markdown tables with standard errors over seeds and writes them, the
rows as CSV and, for each case, a plot of both accuracies.
"""

from __future__ import annotations

import argparse
import copy
import csv
import functools
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl import balancers as b
from kexue_pl.data.digits import NAMES, Digits
from kexue_pl.data.subtasks import label_key
from kexue_pl.gradients import fan_out, scaled, task_gradients
from kexue_pl.tasks.multitask_parts import make_parts

sys.path.insert(0, str(Path(__file__).parent))
from descents import quadratics_table, spread, toy_table

Rows = tuple[Tensor, Tensor]
RULES: dict[str, Callable[[], b.Balancer]] = {
    "equal": b.Equal,
    "inverse_grad_norm": b.InverseGradNorm,
    "mgda normalize=gradient": lambda: b.MGDA(normalize="gradient"),
    "geometric": b.Geometric,
    "imtl_g": b.IMTLG,
    "nash": b.Nash,
    "realtime": b.RealTime,
    "uncertainty": b.Uncertainty,
    "mgda": lambda: b.MGDA(),
    "cagrad": b.CAGrad,
    "pcgrad": b.PCGrad,
    "upgrad": b.UPGrad,
    "main alone": lambda: b.Constant([1.0, 0.0]),
    "primary": b.Primary,
}
GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TUNING_SEED = 100
LOSSES = ["equal", "realtime", "geometric", "inverse_grad_norm"]
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "scale": (
        {"scales": [1.0, 100.0]},
        [name for name in RULES if name not in ("main alone", "primary")],
    ),
    "noise": (
        {"scales": [1.0, 10.0], "noise": 1.0, "train_rows": 600},
        [
            "main alone",
            "equal",
            "primary",
            "pcgrad",
            "inverse_grad_norm",
            "mgda normalize=gradient",
        ],
    ),
    "shift": ({"shifts": [0.0, 5.0]}, LOSSES),
    "plain": ({}, LOSSES),
}


@functools.cache
def make_data(case: str, seed: int) -> Digits:
    """The digits of a case, drawn."""
    data = Digits(seed=seed, **CASES[case][0])
    data.setup("fit")
    return data


def stacked(rows: Any) -> Rows:
    """Images (N, 144) and labels (N, 2) of a split."""
    return torch.stack([row["x"] for row in rows]), torch.tensor(
        [[row[label_key(name)] for name in NAMES] for row in rows]
    )


def train(rule: b.Balancer, data: Digits, lr: float, steps: int, main: int | None) -> nn.Module:
    """Trunk and heads with the weights of the best validation of an epoch (of ``main`` alone, if given)."""
    torch.manual_seed(data.seed)
    trunk, _, heads = make_parts(data, None, None, "hard", 4, (64, 32))
    net = nn.ModuleList([trunk, *heads])
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    x, y = stacked(data.train_set)
    valid = stacked(data.valid_set)
    shared, own = list(trunk.parameters()), [list(head.parameters()) for head in heads]
    best, kept, step = -1.0, copy.deepcopy(net), 0
    for epoch in itertools.count():
        for rows in data.train_batches(epoch):
            fan = fan_out(trunk.layers(x[rows]), b.Equal(), tasks=2)  # type: ignore[operator, union-attr]
            losses = [
                scaled(F.cross_entropy(head.linear(view), y[rows, t]), task.scale) + task.shift  # type: ignore[operator, union-attr]
                for t, (head, view, task) in enumerate(zip(heads, fan.views, data.subtasks))
            ]
            found = task_gradients(losses, shared, own=own, fan=fan)
            update, weights = found.combine(rule)
            assert weights is not None
            found.assign(update, None if isinstance(rule, b.Primary) else weights.tolist())
            optimizer.step()
            step += 1
            if step == steps:
                return kept if best >= 0 else net
        score = mean(accuracies(net, valid)) if main is None else accuracies(net, valid)[main]
        if score > best:
            best, kept = score, copy.deepcopy(net)
    raise AssertionError


def accuracies(net: nn.Module, rows: Rows) -> list[float]:
    """Accuracy of both heads."""
    trunk, *heads = net.children()
    with torch.no_grad():
        z = trunk.layers(rows[0])  # type: ignore[operator]
        return [
            float((head.linear(z).argmax(-1) == rows[1][:, t]).float().mean())  # type: ignore[operator]
            for t, head in enumerate(heads)
        ]


def cell(name: str, case: str, lr: float, seed: int, steps: int) -> list[float]:
    """Test accuracies of one training."""
    data = make_data(case, seed)
    net = train(RULES[name](), data, lr, steps, main_of(case))
    return accuracies(net, stacked(data.test_set))


def main_of(case: str) -> int | None:
    """The main task, whose validation decides: the first one in `noise`."""
    return 0 if case == "noise" else None


def tuned(name: str, case: str, steps: int) -> float:
    """The rate of the best mean validation accuracy (of the main task in `noise`) on another seed."""
    data = make_data(case, TUNING_SEED)

    def score(lr: float) -> float:
        net = train(RULES[name](), data, lr, steps, main_of(case))
        found = accuracies(net, stacked(data.valid_set))
        return found[0] if case == "noise" else mean(found)

    return max(GRID, key=score)


def digits_table(
    case: str, rules: list[str], seeds: int, steps: int, tune: bool, out: Path
) -> list[str]:
    """Markdown of a case; writes its CSV and plot."""
    rows: list[dict[str, Any]] = []
    lines = [f"| {case} | lr | {NAMES[0]} | {NAMES[1]} | worst |", "|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name in rules:
        lr = tuned(name, case, steps) if tune else 1e-2
        found = [cell(name, case, lr, seed, steps) for seed in range(seeds)]
        for seed, (one, two) in enumerate(found):
            rows.append({"rule": name, "lr": lr, "seed": seed, NAMES[0]: one, NAMES[1]: two})
        columns = [[f[0] for f in found], [f[1] for f in found], [min(f) for f in found]]
        lines.append(f"| {name} | {lr:g} | " + " | ".join(map(spread, columns)) + " |")
        print(lines[-1], flush=True)
    with open(out / f"{case}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, out / f"{case}.png")
    return lines


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Both accuracies of every rule: the nearer to the upper right corner, the better for both."""
    from kexue_pl.report.figures import COLORS, new_figure, save

    figure, axes = new_figure(6.4, 4.8)
    names = list(dict.fromkeys(row["rule"] for row in rows))
    for number, name in enumerate(names):
        mine = [row for row in rows if row["rule"] == name]
        x, y = (mean(row[key] for row in mine) for key in NAMES)
        mark = "os^Dv"[number // len(COLORS)]
        axes.scatter(x, y, label=name, color=COLORS[number % len(COLORS)], marker=mark, s=50)
    axes.set(xlabel=f"accuracy {NAMES[0]}", ylabel=f"accuracy {NAMES[1]}")
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    save(figure, path)


def main() -> None:
    """Run the cases and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    known = [*CASES, "quadratics", "toy"]
    parser.add_argument("--cases", nargs="+", choices=known, default=known)
    parser.add_argument(
        "--rules", nargs="+", help="of the digits; default: those that a case tells apart"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of a training on the digits")
    parser.add_argument("--toy-steps", type=int, default=100_000)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("outputs/balancers"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    for case in given.cases:
        if case == "toy":
            lines = toy_table(given.toy_steps)
        elif case == "quadratics":
            lines = quadratics_table(2, 100.0, problems=given.seeds)
            lines += ["", *quadratics_table(4, 100.0, problems=given.seeds)]
        else:
            rules = given.rules or CASES[case][1]
            lines = digits_table(case, rules, given.seeds, given.steps, given.tune, given.out)
        print(flush=True)
        (given.out / f"{case}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
