"""What one balanced step showed, for logs, tables and plots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kexue_pl.balancers import relative_gap

__all__ = ["Balance", "plot_balance", "rows_of"]

MOST_PAIRS = 15


@dataclass(frozen=True)
class Balance:
    """One step of T tasks over all ranks.

    Args:
        losses: (T,) raw losses, NaN where absent.
        weights: (T,) weights, None where the rule has none.
        gram: (T, T) Gram of the task gradients, None where the rule needed none.
        certified: the weights are to minimise a' G a, so a duality gap is reported.
    """

    losses: Tensor
    weights: Tensor | None
    gram: Tensor | None
    certified: bool = False

    def cosines(self) -> Tensor | None:
        """(T, T) cosines between the task gradients, NaN where one is zero or broken."""
        if self.gram is None:
            return None
        norms = self.gram.diagonal().sqrt()
        return self.gram / norms[:, None] / norms[None, :]

    def metrics(self, names: list[str]) -> dict[str, float]:
        """Everything worth a curve, by name; raw losses, never the balanced value alone.

        >>> step = Balance(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.5]), torch.eye(2))
        >>> sorted(step.metrics(["a", "b"]))[:3]
        ['train/along/a', 'train/along/b', 'train/conflict']
        """
        out: dict[str, float] = {}
        for i, name in enumerate(names):
            _put(out, f"train/loss/{name}", self.losses[i])
            if self.weights is not None:
                _put(out, f"train/weight/{name}", self.weights[i])
            if self.gram is not None:
                _put(out, f"train/norm/{name}", self.gram[i, i].sqrt())
        cosines = self.cosines()
        if cosines is None or len(names) < 2:
            return out
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
        values = torch.stack([cosines[i, j] for i, j in pairs])
        live = values.isfinite()
        if bool(live.any()):
            out["train/conflict"] = float((values[live] < 0).double().mean())
            out["train/cosine"] = float(values[live].min())
        if len(pairs) <= MOST_PAIRS:
            for (i, j), value in zip(pairs, values):
                _put(out, f"train/cosine/{names[i]}-{names[j]}", value)
        self._update(out, names)
        return out

    def _update(self, out: dict[str, float], names: list[str]) -> None:
        """How the update lies to the tasks, and how optimal it is."""
        if self.weights is None or self.gram is None or not bool(self.weights.isfinite().all()):
            return
        live = self.weights != 0
        weights = self.weights.to(self.gram)
        inner = self.gram[:, live] @ weights[live]
        length = (weights[live] @ inner[live]).clamp(min=0).sqrt()
        if float(length) > 0:
            along = inner / (self.gram.diagonal().sqrt() * length)
            for i, name in enumerate(names):
                _put(out, f"train/along/{name}", along[i])
        if self.certified and float(length) > 0:
            out["train/gap"] = relative_gap(self.gram, self.weights)


def _put(out: dict[str, float], key: str, value: Tensor) -> None:
    if bool(value.isfinite()):
        out[key] = float(value)


def rows_of(history: list[tuple[int, Balance]], names: list[str]) -> list[dict[str, Any]]:
    """Rows of a table: one a kept step.

    >>> rows_of([(3, Balance(torch.tensor([1.0]), None, None))], ["a"])
    [{'step': 3, 'train/loss/a': 1.0}]
    """
    return [{"step": step} | balance.metrics(names) for step, balance in history]


def plot_balance(history: list[tuple[int, Balance]], names: list[str], folder: Path) -> list[Path]:
    """Draw losses and weights over the steps, and a heat map of the mean cosines; files written."""
    if not history:
        return []
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    steps = [step for step, _ in history]
    series = {
        "losses": [balance.losses for _, balance in history],
        "weights": [b.weights for _, b in history if b.weights is not None],
    }
    written = []
    for title, values in series.items():
        if len(values) != len(steps):
            continue
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for i, name in enumerate(names):
            axes.plot(steps, [float(v[i]) for v in values], label=name, lw=1.2)
        flat = torch.stack(list(values))
        if bool((flat[flat.isfinite()] > 0).all()) and bool(flat.isfinite().any()):
            axes.set_yscale("log")
        axes.set(xlabel="optimizer steps", ylabel=title)
        axes.legend(fontsize=8, frameon=False)
        figure.savefig(folder / f"balance_{title}.png", dpi=130)
        written.append(folder / f"balance_{title}.png")
    return written + _heat_map(history, names, folder)


def _heat_map(history: list[tuple[int, Balance]], names: list[str], folder: Path) -> list[Path]:
    found = [c for c in (balance.cosines() for _, balance in history) if c is not None]
    if not found or len(names) < 2:
        return []
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mean = torch.stack(found).nanmean(0)
    figure = Figure(figsize=(4.6, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(mean.numpy(), vmin=-1, vmax=1, cmap="RdBu")
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right")
    axes.set_yticks(ticks, names)
    if len(names) <= 12:
        for i in ticks:
            for j in ticks:
                axes.text(j, i, f"{float(mean[i, j]):.2f}", ha="center", va="center", fontsize=8)
    axes.set_title("mean cosine of task gradients", fontsize=10)
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(folder / "balance_cosines.png", dpi=130)
    return [folder / "balance_cosines.png"]
