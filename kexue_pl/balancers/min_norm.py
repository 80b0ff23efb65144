"""The point of smallest norm in the convex hull of the task gradients."""

from __future__ import annotations

import math
from operator import mul

import numpy as np
import torch
from torch import Tensor

from kexue_pl.balancers.correlation import correlation, nonnegative, root

STATIONARY = 1e-12
SMALL = 12
"""So many tasks at most are first tried in plain Python."""


def min_norm(gram: Tensor) -> Tensor:
    r"""Exact minimiser of :math:`a^\top G a` over the simplex, at any scale of the gradients.

    With :math:`C = R^\top R` the correlations, :math:`d_i = \lVert g_i\rVert` and
    :math:`c_i = \min_j d_j / d_i`: :math:`b = \arg\min_{b \ge 0} \lVert R b\rVert^2 +
    (c^\top b - 1)^2` is a non-negative least-squares problem, and :math:`a_i \propto b_i / d_i`.
    The dual of article 8896 (kexue.fm/archives/8896): :math:`u = \sum_i a_i g_i` maximises
    :math:`\min_i \langle g_i, u\rangle - \frac12 \lVert u\rVert^2`.

    Args:
        gram: (n, n) with positive finite diagonal.

    Returns:
        (n,) float64 weights, non-negative, of sum 1.

    >>> import torch
    >>> min_norm(torch.tensor([[1.0, 0.0], [0.0, 4.0]])).round(decimals=6).tolist()
    [0.8, 0.2]
    """
    n = len(gram)
    if n == 1:
        return torch.ones(1, dtype=torch.float64)
    inside = interior(gram.tolist()) if n <= SMALL else None
    if inside is not None:
        return torch.tensor(inside, dtype=torch.float64)
    corr, norms = correlation(gram)
    rows = np.vstack([root(corr), norms.min() / norms])
    b = nonnegative(rows, np.append(np.zeros(n), 1.0))
    a = b / norms * norms.min()
    return torch.from_numpy(a / a.sum())


def interior(gram: list[list[float]]) -> list[float] | None:
    r"""Min-norm weights when every task takes part, :math:`C b = c`, and None when one does not.

    Plain Python: for a few tasks the calls of a library cost more than the numbers. The result is
    given only if it certifies itself, :math:`(G a)_i` equal for all tasks to 1e-12.

    Args:
        gram: n rows of n numbers, positive on the diagonal.

    >>> [round(a, 6) for a in interior([[1.0, 0.0], [0.0, 4.0]])]
    [0.8, 0.2]
    >>> interior([[1.0, 3.0], [3.0, 16.0]]) is None
    True
    """
    n = range(len(gram))
    norms = [math.sqrt(gram[i][i]) for i in n]
    least = min(norms)
    ratios = [least / d for d in norms]
    corr = [[gram[i][j] / norms[i] / norms[j] for j in n] for i in n]
    lower: list[list[float]] = []  # Cholesky factor, row by row
    half: list[float] = []
    for i in n:
        row: list[float] = []
        for j in range(i):
            row.append((corr[i][j] - sum(map(mul, row, lower[j]))) / lower[j][j])
        pivot = 1.0 - sum(map(mul, row, row))
        if pivot < 1e-6:
            return None
        half.append((ratios[i] - sum(map(mul, row, half))) / math.sqrt(pivot))
        lower.append([*row, math.sqrt(pivot)])
    b = [0.0] * len(gram)
    for i in reversed(n):
        rest = half[i] - sum(lower[k][i] * b[k] for k in range(i + 1, len(gram)))
        b[i] = rest / lower[i][i]
        if not b[i] > 0:
            return None
    for i in n:
        if abs(sum(map(mul, corr[i], b)) / ratios[i] - 1) > 1e-12:
            return None
    total = sum(map(mul, b, ratios))
    return [x * r / total for x, r in zip(b, ratios)]


def pair_min_norm(gram: Tensor) -> Tensor:
    r"""The two-task closed form of article 8896.

    .. math:: a_1 = \mathrm{clip}\Big(\frac{\langle g_2 - g_1, g_2\rangle}
        {\lVert g_1 - g_2\rVert^2}, 0, 1\Big), \quad a_2 = 1 - a_1;
        \quad g_1 = g_2 \Rightarrow \tfrac12

    Raises:
        ValueError: not two tasks.

    >>> import torch
    >>> pair_min_norm(torch.tensor([[1.0, 0.0], [0.0, 4.0]])).round(decimals=6).tolist()
    [0.8, 0.2]
    """
    if len(gram) != 2:
        raise ValueError(f"the closed form is for 2 tasks, got {len(gram)}; use solver=nnls")
    (g11, g12), (_, g22) = gram.tolist()
    spread = g11 + g22 - 2 * g12
    a = min(max((g22 - g12) / spread, 0.0), 1.0) if spread > 0 else 0.5
    return torch.tensor([a, 1 - a], dtype=torch.float64)


def frank_wolfe(gram: Tensor, *, iterations: int = 250, tolerance: float = 0.0) -> Tensor:
    r"""Frank-Wolfe with exact line search, as article 8896 derives it.

    With :math:`\bar g = \sum_i a_i g_i` and :math:`t = \arg\min_i \langle g_i, \bar g\rangle`:
    :math:`a \leftarrow (1 - c) a + c e_t`, where c is the best step of the pair :math:`\bar g, g_t`.
    It converges as 1/k and is far from optimal when norms differ; kept because it is the article's.

    Args:
        gram: (n, n).
        iterations: steps at most.
        tolerance: stop when the step c falls below it.

    >>> import torch
    >>> frank_wolfe(torch.tensor([[1.0, 0.0], [0.0, 4.0]])).round(decimals=6).tolist()
    [0.8, 0.2]
    """
    g = gram.double()
    a = torch.full((len(g),), 1 / len(g), dtype=torch.float64)
    for _ in range(iterations):
        inner = g @ a
        t = int(inner.argmin())
        edge, square, corner = float(inner[t]), float(a @ inner), float(g[t, t])
        if corner <= edge:
            step = 1.0
        elif square <= edge:
            step = 0.0
        else:
            step = (square - edge) / (square + corner - 2 * edge)
        a = (1 - step) * a
        a[t] += step
        if step <= tolerance:
            break
    return a


def relative_gap(gram: Tensor, weights: Tensor) -> float:
    r"""Duality gap that certifies a min-norm solution, 0 at the optimum.

    .. math:: \frac{a^\top G a - \min_i (G a)_i}{a^\top G a}

    At a stationary point, where :math:`a^\top G a \approx 0`, the divisor is :math:`\min_i G_{ii}`.
    Tasks with zero or non-finite gradients are left out.

    >>> import torch
    >>> g = torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    >>> relative_gap(g, torch.tensor([0.8, 0.2])) < 1e-6, relative_gap(g, torch.tensor([0.5, 0.5]))
    (True, 0.6)
    """
    diagonal = gram.diagonal().double()
    live = diagonal.isfinite() & (diagonal > 0)
    if not bool(live.any()):
        return 0.0
    g, a = gram.double()[live][:, live], weights.double()[live]
    inner = g @ a
    value, least = float(a @ inner), float(g.diagonal().min())
    return (value - float(inner.min())) / (value if value > STATIONARY * least else least)


def stationary(gram: Tensor, weights: Tensor) -> bool:
    r"""Whether 0 lies in the hull: :math:`a^\top G a \le 10^{-12} \min_i G_{ii}` (float32 gradients).

    >>> import torch
    >>> stationary(torch.tensor([[1.0, -3.0], [-3.0, 9.0]]), torch.tensor([0.75, 0.25]))
    True
    """
    rows, a = gram.tolist(), weights.tolist()
    value = sum(x * sum(map(mul, row, a)) for x, row in zip(a, rows))
    return bool(value <= STATIONARY * min(row[i] for i, row in enumerate(rows)))
