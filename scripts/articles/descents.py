"""Descents over problems with a known Pareto front: the toy of CAGrad and Nash-MTL, and quadratics.

Imported by `balancers.py`. The losses' gradients are written out (they equal autograd's, see the tests);
the rules are those of the library, on the Gram of exact gradients in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from kexue_pl import balancers as b
from kexue_pl.data.quadratics import Quadratics
from kexue_pl.data.toy import Toy

Array = npt.NDArray[np.float64]
Make = Callable[[], b.Balancer]

RULES: dict[str, Make] = {
    "equal": b.Equal,
    "inverse_grad_norm": b.InverseGradNorm,
    "mgda": b.MGDA,
    "mgda normalize=gradient": lambda: b.MGDA(normalize="gradient"),
    "nash": b.Nash,
    "imtl_g": b.IMTLG,
    "pcgrad": b.PCGrad,
    "cagrad": b.CAGrad,
    "upgrad": b.UPGrad,
    "dualproj": b.DualProj,
}
TOY_RULES = ("equal", "mgda", "inverse_grad_norm", "imtl_g", "pcgrad", "cagrad")
STARTS = ((-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0))
"""Those of the CAGrad paper's toy.py."""
NEAR = 0.05
"""A descent has arrived when it is this near to the front."""


def toy_gradients(point: Array) -> Array:
    """(2, 2): the gradients of both toy losses at (x1, x2)."""
    x1, x2 = point
    half = math.tanh(x2 / 2)
    upper, slope = (half, 0.5 * (1 - half * half)) if x2 > 0 else (0.0, 0.0)
    lower, fall = (-half, -0.5 * (1 - half * half)) if x2 < 0 else (0.0, 0.0)
    bend = math.tanh(x2)
    straight = 1 - bend * bend
    out = np.empty((2, 2))
    for i, (a, pull, sign) in enumerate(
        ((0.5 * (-x1 - 7) + bend, x1 - 7, 1.0), (0.5 * (-x1 + 3) - bend + 2, x1 + 7, -1.0))
    ):
        inside = abs(a) > 5e-6
        height = math.log(max(abs(a), 5e-6)) + 6
        bowl = (pull * pull + 0.1 * (x2 + 8) ** 2) / 10 - 20
        along = -0.5 / a if inside else 0.0
        up = sign * straight / a if inside else 0.0
        out[i, 0] = along * upper + pull / 5 * lower
        out[i, 1] = up * upper + height * slope + 0.02 * (x2 + 8) * lower + bowl * fall
    return out


def toy(
    rule: b.Balancer, start: Sequence[float], steps: int, lr: float = 1e-3
) -> tuple[Array, int]:
    """Adam at a constant rate, as published: the last point, and the step of arrival (-1: never)."""
    x, m, v = np.array(start), np.zeros(2), np.zeros(2)
    data, arrived = Toy(), -1
    for step in range(1, steps + 1):
        rows = toy_gradients(x)
        weights = rule.weights(torch.from_numpy(rows @ rows.T))
        g = weights.numpy() @ rows
        m += 0.1 * (g - m)
        v += 0.001 * (g * g - v)
        size = lr * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        x -= size * m / (np.sqrt(v) + 1e-8 * math.sqrt(1 - 0.999**step))
        if arrived < 0 and step % 500 == 0 and distance(data, x) < NEAR:
            arrived = step
    return x, arrived


def distance(data: Toy, x: Array) -> float:
    """From a point to the toy's front."""
    return data.measure(torch.from_numpy(x))["front_distance"]


def toy_table(steps: int = 100_000, rules: Sequence[str] = TOY_RULES) -> list[str]:
    """Markdown: from every start the step of arrival and the end point."""
    heads = [f"from {start}" for start in STARTS]
    lines = ["| rule | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    print("\n".join(lines), flush=True)
    for name in rules:
        cells = []
        for start in STARTS:
            x, arrived = toy(RULES[name](), start, steps)
            where = f"({x[0]:.1f}, {x[1]:.1f})"
            cells.append(f"{arrived / 1000:g}k, {where}" if arrived > 0 else f"never, {where}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def descend(rule: b.Balancer, data: Quadratics, lr: float, steps: int) -> dict[str, float]:
    """Gradient descent with cosine decay; what is known of the last point (zeros if it diverged)."""
    hessian, centres = data.hessian.numpy(), data.centres.numpy()
    scales = data.scales.numpy()[:, None]
    x = np.array(data.start)
    for step in range(steps):
        off = x - centres
        slopes = off @ hessian
        rows = scales * slopes
        losses = 0.5 * (rows * off).sum(1)
        weights = rule.weights(torch.from_numpy(rows @ rows.T), torch.from_numpy(losses))
        x = x - lr * 0.5 * (1 + math.cos(math.pi * step / steps)) * (weights.numpy() @ rows)
        if not np.isfinite(x).all() or np.abs(x).max() > 1e6:
            return {"front_distance": math.inf, "balance": 0.0}
    return data.measure(torch.from_numpy(x))


def best_balance(data: Quadratics) -> float:
    """The greatest balance on the front, which the scores are divided by."""
    return max(data.measure(x)["balance"] for x in data.front(400))


GRID = tuple(10.0**k for k in np.arange(-2, 2.1, 0.5))
"""Learning rates of the quadratics, half a decade apart."""


def quadratics_table(
    tasks: int, gap: float, *, steps: int = 1000, problems: int = 3, rules: Sequence[str] | None = None
) -> list[str]:  # fmt: skip
    """Markdown: distance to the front and balance over fresh problems, the rate tuned on two others."""
    lines = [
        f"| {tasks} tasks, scales over {gap:g} | lr | distance to the front | balance |",
        "|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    made = [Quadratics(tasks=tasks, gap=gap, seed=s) for s in range(100, 102)]
    fresh = [Quadratics(tasks=tasks, gap=gap, seed=s) for s in range(problems)]
    best = {id(data): best_balance(data) for data in (*made, *fresh)}
    for name in rules or RULES:

        def score(lr: float, name: str = name) -> float:
            ends = [(d, descend(RULES[name](), d, lr, steps)) for d in made]
            return sum(e["balance"] / best[id(d)] - min(e["front_distance"], 1.0) for d, e in ends)

        lr = max(GRID, key=score)
        ends = [descend(RULES[name](), data, lr, steps) for data in fresh]
        shown = [spread([e["front_distance"] for e in ends])]
        shown.append(spread([e["balance"] / best[id(d)] for d, e in zip(fresh, ends)]))
        lines.append(f"| {name} | {lr:.1g} | " + " | ".join(shown) + " |")
        print(lines[-1], flush=True)
    return lines


def spread(values: Sequence[float]) -> str:
    """Mean and standard error."""
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return f"{float(np.mean(values)):.3f} ± {error:.3f}"
