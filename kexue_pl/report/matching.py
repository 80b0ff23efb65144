"""What a matching run shows: scores by label, curves over the threshold, the hardest errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kexue_pl.reading import Table
from kexue_pl.report.figures import COLORS, new_figure, save

__all__ = ["draw", "hardest_errors"]


def hardest_errors(
    rows: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    truth: np.ndarray | None,
    threshold: float,
    table: Table,
    count: int,
) -> list[dict[str, Any]]:
    """The rows that are furthest on the wrong side, or whose ranks differ most for grades.

    Args:
        rows: (N,) row numbers of ``table``.
        scores: (N,) their scores.
        labels: (N,) their labels.
        truth: (N,) bool, or None for grades.
        threshold: of the decision.
        table: the texts.
        count: most rows returned.
    """
    if truth is None:
        error = np.abs(_ranks(scores) - _ranks(labels)) / max(1, len(scores) - 1)
    else:
        error = np.where(truth, threshold - scores, scores - threshold)
    order = [i for i in np.argsort(-error, kind="stable")[:count] if error[i] > 0]
    found = []
    for i in order:
        row = int(rows[i])
        texts = table[row]
        found.append(
            {
                "where": table.where(row),
                "text1": texts["text1"],
                "text2": texts["text2"],
                "label": float(labels[i]),
                "score": float(scores[i]),
                "error": float(error[i]),
            }
        )
    return found


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks: np.ndarray = rankdata(values) - 1
    return ranks


def draw(
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    truth: np.ndarray | None,
    threshold: float,
    folder: Path,
) -> list[Path]:
    """Draw all plots of a test into ``folder``; the files written.

    Args:
        scores: (N,) of the test rows.
        labels: (N,).
        truth: (N,) bool, or None for grades.
        threshold: of the decision.
        folder: where the PNG files go.
    """
    written = [_histograms(scores, labels, threshold if truth is not None else None, folder)]
    if truth is None or truth.all() or not truth.any():
        return written
    binary = truth
    order = np.argsort(-scores, kind="stable")
    # Decisions change only between distinct scores.
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(binary[order])[ends]
    return [
        *written,
        _curves(hits, ends + 1, len(scores), int(binary.sum()), folder),
        _thresholds(hits, ends + 1, scores[order][ends], binary, threshold, folder),
        _calibration(scores, binary, folder),
    ]


def _histograms(
    scores: np.ndarray, labels: np.ndarray, threshold: float | None, folder: Path
) -> Path:
    figure, axes = new_figure()
    edges = np.linspace(scores.min(), scores.max() + 1e-6, 41)
    for number, value in enumerate(np.unique(labels)[:7]):
        part = scores[labels == value]
        color = COLORS[number % len(COLORS)]
        axes.hist(part, edges, alpha=0.5, density=True, color=color, label=f"label {value:g}")
    if threshold is not None:
        axes.axvline(threshold, color="black", ls="--", lw=1.2, label=f"threshold {threshold:.3f}")
    axes.set(xlabel="score", ylabel="density", title="scores of the test rows by label")
    axes.legend(fontsize=8, frameon=False)
    return save(figure, folder / "scores_by_label.png")


def _curves(hits: np.ndarray, chosen: np.ndarray, rows: int, positives: int, folder: Path) -> Path:
    recall = hits / positives
    false = (chosen - hits) / max(1, rows - positives)
    figure, (left, right) = new_figure(9.0, 4.2, columns=2)
    area = np.trapezoid(np.append(0, recall), np.append(0, false))
    left.plot(np.append(0, false), np.append(0, recall), color=COLORS[0])
    left.plot([0, 1], [0, 1], color=COLORS[6], ls=":")
    left.set(xlabel="false positive rate", ylabel="recall", title=f"ROC, area {area:.3f}")
    right.plot(recall, hits / chosen, color=COLORS[1])
    right.axhline(positives / rows, color=COLORS[6], ls=":")
    right.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(0, 1.02))
    return save(figure, folder / "roc_pr.png")


def _thresholds(
    hits: np.ndarray,
    chosen: np.ndarray,
    cuts: np.ndarray,
    truth: np.ndarray,
    threshold: float,
    folder: Path,
) -> Path:
    total, positives = len(truth), int(truth.sum())
    figure, axes = new_figure()
    accuracy = (2 * hits + total - positives - chosen) / total
    axes.plot(cuts, accuracy, color=COLORS[0], label="accuracy")
    axes.plot(cuts, 2 * hits / (chosen + positives), color=COLORS[1], label="F1")
    axes.axvline(threshold, color="black", ls="--", lw=1.2, label="threshold of validation")
    axes.set(xlabel="threshold", ylabel="value", title="decisions by threshold")
    axes.legend(fontsize=8, frameon=False)
    return save(figure, folder / "threshold.png")


def _calibration(scores: np.ndarray, truth: np.ndarray, folder: Path) -> Path:
    """Share of positives in ten groups of equal size, by mean score."""
    groups = [part for part in np.array_split(np.argsort(scores, kind="stable"), 10) if len(part)]
    figure, axes = new_figure()
    means = [float(scores[part].mean()) for part in groups]
    shares = [float(truth[part].mean()) for part in groups]
    axes.plot(means, shares, marker="o", color=COLORS[2])
    axes.set(
        xlabel="mean score of a tenth of the rows",
        ylabel="share of positives",
        title="what a score says",
        ylim=(-0.02, 1.02),
    )
    return save(figure, folder / "calibration.png")
