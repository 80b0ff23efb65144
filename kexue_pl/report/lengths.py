"""Plots over the length of the input."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kexue_pl.attention import log_slope
from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["interval", "plot_accuracy", "plot_entropy", "plot_sweep"]


def interval(values: Sequence[float]) -> float:
    """Half the width of the 95 % confidence interval of a mean, by Student's t; 0 for one value.

    >>> round(interval([1.0, 3.0]), 2)  # 12.71 times 1.414 / sqrt 2
    12.71
    """
    from scipy.stats import t

    if len(values) < 2:
        return 0.0
    return float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def plot_sweep(names: Sequence[str], metrics: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Accuracy against length over the seeds of each setting of a sweep, if it was tested at several.

    Args:
        names: what sets each run apart, equal for runs that differ in their seeds.
        metrics: of each run; ``test/accuracy@64`` and the like are drawn.
        folder: where ``accuracy_by_length.png`` goes.
    """
    curves: dict[str, list[dict[int, float]]] = defaultdict(list)
    for name, found in zip(names, metrics, strict=True):
        sign = "test/accuracy@"
        points = {int(key.removeprefix(sign)): found[key] for key in found if key.startswith(sign)}
        if len(points) > 1:
            curves[name].append(points)
    if curves:
        plot_accuracy(curves, folder / "accuracy_by_length.png")


def plot_accuracy(curves: Mapping[str, Sequence[Mapping[int, float]]], path: Path) -> Path:
    """Accuracy (%) against length; one line a name, with the 95 % confidence of its mean.

    Args:
        curves: name -> one mapping of length to accuracy (0 ... 1) for each seed.
        path: PNG to write.
    """
    figure, axes = _axes("accuracy of hidden tokens, %")
    for number, (name, seeds) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        lengths = sorted(set.intersection(*(set(seed) for seed in seeds)))
        values = [[100 * seed[n] for seed in seeds] for n in lengths]
        means = [statistics.fmean(column) for column in values]
        axes.plot(lengths, means, marker="o", label=name or None, color=color)
        if len(seeds) > 1:
            spread = [interval(column) for column in values]
            low = [max(0.0, m - s) for m, s in zip(means, spread)]
            high = [min(100.0, m + s) for m, s in zip(means, spread)]
            axes.fill_between(lengths, low, high, alpha=0.2, color=color)
    if any(curves):
        axes.legend(fontsize=8, frameon=False)
    return save(figure, path)


def plot_entropy(entropies: Mapping[int, Tensor], path: Path) -> Path:
    """Attention entropy (nats) against length: heads thin, the mean of each layer thick, with its
    slope in log n.

    Args:
        entropies: length -> means (layers, heads).
        path: PNG to write.
    """
    figure, axes = _axes("attention entropy, nats")
    lengths = sorted(entropies)
    for layer in range(len(entropies[lengths[0]])):
        means = [float(entropies[n][layer].mean()) for n in lengths]
        label = f"layer {layer}: slope {log_slope(lengths, means):.2f}"
        color = COLORS[layer % len(COLORS)]
        for head in range(len(entropies[lengths[0]][layer])):
            own = [float(entropies[n][layer, head]) for n in lengths]
            axes.plot(lengths, own, color=color, alpha=0.35, linewidth=0.8)
        axes.plot(lengths, means, marker="o", label=label, color=color)
    axes.legend(fontsize=8, frameon=False)
    return save(figure, path)


def _axes(title: str) -> tuple[Any, Any]:
    figure, axes = new_figure()
    axes.set_xscale("log", base=2)
    axes.set(xlabel="tokens in a row", ylabel=title)
    return figure, axes
