"""Plots over the length of the input."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kexue_pl.attention import log_slope
from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["plot_accuracy", "plot_entropy"]


def plot_accuracy(curves: Mapping[str, Sequence[Mapping[int, float]]], path: Path) -> Path:
    """Accuracy (%) against length; one line a name, a band of one standard deviation over seeds.

    Args:
        curves: name -> one mapping of length to accuracy (0 ... 1) for each seed.
        path: PNG to write.
    """
    figure, axes = _axes("accuracy of hidden tokens, %")
    for number, (name, seeds) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        lengths = sorted(seeds[0])
        values = [[100 * seed[n] for seed in seeds] for n in lengths]
        means = [statistics.fmean(column) for column in values]
        axes.plot(lengths, means, marker="o", label=name or None, color=color)
        if len(seeds) > 1:
            spread = [statistics.stdev(column) for column in values]
            low, high = ([m + sign * s for m, s in zip(means, spread)] for sign in (-1, 1))
            axes.fill_between(lengths, low, high, alpha=0.2, color=color)
    if any(curves):
        axes.legend(fontsize=8, frameon=False)
    return save(figure, path)


def plot_entropy(entropies: Mapping[int, Tensor], path: Path) -> Path:
    """Mean attention entropy (nats) of each layer against length, its slope in log n in the legend.

    Args:
        entropies: length -> means (layers, heads).
        path: PNG to write.
    """
    figure, axes = _axes("attention entropy, nats")
    lengths = sorted(entropies)
    for layer in range(len(entropies[lengths[0]])):
        means = [float(entropies[n][layer].mean()) for n in lengths]
        label = f"layer {layer}: slope {log_slope(lengths, means):.2f}"
        axes.plot(lengths, means, marker="o", label=label, color=COLORS[layer % len(COLORS)])
    axes.legend(fontsize=8, frameon=False)
    return save(figure, path)


def _axes(title: str) -> tuple[Any, Any]:
    figure, axes = new_figure()
    axes.set_xscale("log", base=2)
    axes.set(xlabel="tokens in a row", ylabel=title)
    return figure, axes
