"""Articles 8870, 8896, 8907: what tells balancing rules apart, on real overlapping digits.

    python scripts/articles/balancers.py --case scale --seeds 3 --out balancers

Cases: `scale` (the second loss times 100), `plain` (times 1), `shift` (plus 5), `noise` (600 images, the
second task's labels are random and its loss counts ten times). Gradients are exact, at the parameters
of the trunk; heads get the weighted gradient except under `primary`. With --tune the learning rate of
every rule is chosen on the validation rows of other seeds, from one grid; without it RATES_AT_SCALE,
else 0.01, is used. Prints a Markdown table with standard errors over seeds and writes it, the rows as
CSV and a plot of both accuracies.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl import balancers as b
from kexue_pl.data.digits import NAMES, Digits
from kexue_pl.data.subtasks import label_key
from kexue_pl.gradients import fan_out, scaled, task_gradients

Rows = tuple[Tensor, Tensor]
RULES: dict[str, Callable[[], b.Balancer]] = {
    "equal": b.Equal,
    "realtime": b.RealTime,
    "geometric": b.Geometric,
    "uncertainty": b.Uncertainty,
    "inverse_grad_norm": b.InverseGradNorm,
    "mgda": b.MGDA,
    "mgda normalize=gradient": lambda: b.MGDA(normalize="gradient"),
    "nash": b.Nash,
    "imtl_g": b.IMTLG,
    "cagrad": b.CAGrad,
    "pcgrad": b.PCGrad,
    "upgrad": b.UPGrad,
    "gradnorm": b.GradNorm,
    "primary": b.Primary,
    "main alone": lambda: b.Constant([1.0, 0.0]),
}
RATES_AT_SCALE = {
    "equal": 1e-3,
    "realtime": 1e-3,
    "geometric": 3e-3,
    "mgda": 3e-2,
    "mgda normalize=gradient": 3e-2,
    "pcgrad": 1e-3,
    "upgrad": 1e-3,
    "cagrad": 3e-3,
}
GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1)
CASES: dict[str, dict[str, object]] = {
    "plain": {},
    "scale": {"scales": [1.0, 100.0]},
    "shift": {"shifts": [0.0, 5.0]},
    "noise": {"scales": [1.0, 10.0], "noise": 1.0, "train_rows": 600},
}


def splits(case: str, seed: int) -> tuple[Rows, Rows, Rows]:
    """Train, validation and test as (images, labels)."""
    data = Digits(seed=seed, **CASES[case])  # type: ignore[arg-type]
    data.setup("fit")
    out = []
    for rows in (data.train_set, data.valid_set, data.test_set):
        assert rows is not None
        x = torch.stack([row["x"] for row in rows])
        y = torch.tensor([[row[label_key(name)] for name in NAMES] for row in rows])
        out.append((x, y))
    return out[0], out[1], out[2]


def train(
    rule: b.Balancer, data: Rows, case: str, lr: float, steps: int, seed: int
) -> nn.ModuleList:
    """Trunk and two heads after `steps` steps of SGD with momentum."""
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    net = nn.ModuleList([trunk, nn.Linear(32, 10), nn.Linear(32, 10)])
    scales = CASES[case].get("scales", [1.0, 1.0])
    shifts = CASES[case].get("shifts", [0.0, 0.0])
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    draw = torch.Generator().manual_seed(1000 + seed)
    for _ in range(steps):
        rows = torch.randint(len(data[0]), (64,), generator=draw)
        x, y = data[0][rows], data[1][rows]
        fan = fan_out(trunk(x), b.Equal(), tasks=2)
        losses = [
            scaled(F.cross_entropy(net[t + 1](fan.views[t]), y[:, t]), scales[t]) + shifts[t]  # type: ignore[index]
            for t in range(2)
        ]
        own = [list(net[1].parameters()), list(net[2].parameters())]
        found = task_gradients(losses, list(trunk.parameters()), own=own, fan=fan)
        update, weights = found.combine(rule)
        assert weights is not None
        # Plain min-norm with each head's own gradient is the published form; here all rules alike.
        found.assign(update, None if isinstance(rule, b.Primary) else weights.tolist())
        optimizer.step()
    return net


def accuracies(net: nn.ModuleList, data: Rows) -> list[float]:
    """Accuracy of both heads."""
    with torch.no_grad():
        z = net[0](data[0])
        return [float((net[t + 1](z).argmax(-1) == data[1][:, t]).float().mean()) for t in range(2)]


def tuned(name: str, case: str, steps: int) -> float:
    """The rate of the best mean validation accuracy (of the main task in `noise`) on seeds 100, 101."""

    def score(lr: float) -> float:
        total = 0.0
        for seed in (100, 101):
            fit, valid, _ = splits(case, seed)
            both = accuracies(train(RULES[name](), fit, case, lr, steps, seed), valid)
            total += both[0] if case == "noise" else sum(both) / 2
        return total

    return max(GRID, key=score)


def rate(name: str, case: str) -> float:
    """The rate that suits a rule without tuning; a loss scale of 100 asks most rules for less."""
    return RATES_AT_SCALE.get(name, 1e-2) if case == "scale" else 1e-2


def spread(values: list[float]) -> str:
    """Mean and standard error."""
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{mean(values):.3f} ± {error:.3f}"


def main() -> None:
    """Run the rules of a case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--case", choices=CASES, default="scale")
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("outputs/balancers"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    lines = ["| rule | lr | top left | bottom right | worst |", "|---|---|---|---|---|"]
    for name in given.rules:
        lr = tuned(name, given.case, given.steps) if given.tune else rate(name, given.case)
        found = []
        for seed in range(given.seeds):
            fit, _, test = splits(given.case, seed)
            found.append(
                accuracies(train(RULES[name](), fit, given.case, lr, given.steps, seed), test)
            )
            rows.append(
                {
                    "rule": name,
                    "lr": lr,
                    "seed": seed,
                    NAMES[0]: found[-1][0],
                    NAMES[1]: found[-1][1],
                }
            )
        one, two = [f[0] for f in found], [f[1] for f in found]
        worst = [min(f) for f in found]
        lines.append(f"| {name} | {lr:g} | {spread(one)} | {spread(two)} | {spread(worst)} |")
        print(lines[-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{given.case}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with open(given.out / f"{given.case}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, given.out / f"{given.case}.png")


def plot(rows: list[dict[str, object]], path: Path) -> None:
    """Both accuracies of every rule: the nearer to the upper right corner, the better for both."""
    from kexue_pl.report.figures import COLORS, new_figure, save

    figure, axes = new_figure(6.4, 4.8)
    names = list(dict.fromkeys(str(row["rule"]) for row in rows))
    for number, name in enumerate(names):
        mine = [row for row in rows if row["rule"] == name]
        x, y = (mean(float(row[key]) for row in mine) for key in NAMES)  # type: ignore[arg-type]
        mark = "os^Dv"[number // len(COLORS)]
        axes.scatter(x, y, label=name, color=COLORS[number % len(COLORS)], marker=mark, s=50)
    axes.set(xlabel=f"accuracy {NAMES[0]}", ylabel=f"accuracy {NAMES[1]}")
    axes.legend(fontsize=7, frameon=False, loc="lower left")
    save(figure, path)


if __name__ == "__main__":
    main()
