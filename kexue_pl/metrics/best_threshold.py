"""The exact best threshold of a scored set, from one sort (kexue.fm/archives/8860)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kexue_pl.metrics.checks import binary_labels, paired, working_dtype

__all__ = ["at_threshold", "best_threshold"]


def best_threshold(
    scores: Any, labels: Any, *, positive_from: float | None = None
) -> dict[str, float]:
    """Best accuracy, F1 and Matthews correlation over all thresholds, exactly, with the thresholds.

    A pair is positive iff score > t. Scores are sorted once; with tp positives among the k highest
    scores, n pairs and P positives, for every k at the end of a group of equal scores, and k = 0:

        accuracy = (2 tp + n - P - k) / n      F1 = 2 tp / (k + P)
        MCC = (n tp - k P) / sqrt(k (n - k) P (n - P))

    Source: the automatic threshold of kexue.fm/archives/8860, which searches numerically and can
    miss the optimum.

    Args:
        scores: (N,) any finite or infinite numbers; half precision is compared in float32.
        labels: (N,) 0/1, or grades together with `positive_from`.
        positive_from: first grade that counts as positive.

    Returns:
        accuracy, accuracy_threshold, f1, f1_threshold, mcc, mcc_threshold; precision and recall at
        f1_threshold; average_precision, roc_auc (NaN where one class is absent). Of equal optima
        the highest threshold is taken. Thresholds are midpoints that the dtype of the scores holds
        exactly, so that comparing in that dtype gives the stated figures; at the extremes they lie
        just beyond the scores.

    Raises:
        ValueError: no rows, NaN, labels that are not 0/1, or shapes that differ.

    >>> best = best_threshold([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0])
    >>> best["accuracy"], round(best["accuracy_threshold"], 3)
    (0.75, 0.85)
    >>> best["f1"], round(best["f1_threshold"], 3)  # 2 * 2 / (3 + 2)
    (0.8, 0.2)
    """
    x, y = paired("best_threshold", working_dtype(scores), labels)
    if not len(x):
        raise ValueError("best_threshold: no rows")
    positive = binary_labels("best_threshold", y, positive_from)
    s, order = x.sort(descending=True)
    last = torch.cat([s[1:] != s[:-1], torch.ones(1, dtype=torch.bool)])
    ends = last.nonzero().flatten()
    hits = positive[order].cumsum(0)[ends]
    zero = ends.new_zeros(1)
    tp, k = torch.cat([zero, hits]), torch.cat([zero, ends + 1])
    n, total = len(s), int(hits[-1])
    f1 = 2 * tp.double() / (k + total).clamp_min(1)
    mcc = _matthews(tp, k, total, n)
    at = {"accuracy": int((2 * tp - k).argmax()), "f1": int(f1.argmax()), "mcc": int(mcc.argmax())}
    value = {
        "accuracy": int(2 * tp[at["accuracy"]] + n - total - k[at["accuracy"]]) / n,
        "f1": float(f1[at["f1"]]),
        "mcc": float(mcc[at["mcc"]]),
    }
    result = {}
    for name, place in at.items():
        result[name] = value[name]
        result[f"{name}_threshold"] = _cut(s, ends, place)
    best_tp, best_k = int(tp[at["f1"]]), int(k[at["f1"]])
    result["precision"] = best_tp / best_k if best_k else 0.0
    result["recall"] = best_tp / total if total else 0.0
    return result | _areas(tp.double(), k.double(), total, n)


def _matthews(tp: Tensor, k: Tensor, total: int, n: int) -> Tensor:
    """Matthews correlation for each cut, 0 where a row or column of the table is empty."""
    # Products of four counts overflow 64-bit integers from n = 1e5 on.
    spread = (k.double() * (n - k).double()).sqrt() * (float(total) * float(n - total)) ** 0.5
    return torch.where(spread > 0, (n * tp - k * total).double() / spread.clamp_min(1e-300), 0.0)


def _cut(s: Tensor, ends: Tensor, place: int) -> float:
    """A threshold between cut `place` and the next score, exact in the dtype of the scores."""
    infinity = s.new_tensor(torch.inf)
    if place == 0:
        return float(torch.nextafter(s[0], infinity))
    if place == len(ends):
        return float(torch.nextafter(s[-1], -infinity))
    high, low = s[ends[place - 1]], s[ends[place - 1] + 1]
    middle = low + (high - low) / 2
    # The midpoint of two neighbours may round up to the upper; the rule is strict, so low will do.
    return float(middle if bool((low <= middle) & (middle < high)) else low)


def _areas(tp: Tensor, k: Tensor, total: int, n: int) -> dict[str, float]:
    """Average precision (step sum) and area under the ROC curve (trapezoids over ties)."""
    if total in (0, n):
        return {"average_precision": float("nan"), "roc_auc": float("nan")}
    fp = k - tp
    steps = tp.diff()
    precision = float((steps * tp[1:] / k[1:]).sum()) / total
    area = float((fp.diff() * (tp[1:] + tp[:-1]) / 2).sum()) / total / (n - total)
    return {"average_precision": precision, "roc_auc": area}


def at_threshold(
    scores: Any, labels: Any, threshold: float, *, positive_from: float | None = None
) -> dict[str, float]:
    """Accuracy, F1, precision, recall and MCC where a pair is positive iff score > threshold.

    Use it with a threshold that was chosen on other data; `best_threshold` of a test set is an
    oracle.

    >>> at_threshold([0.9, 0.8, 0.3, 0.1], [1, 0, 1, 0], 0.85)["accuracy"]
    0.75
    """
    x, y = paired("at_threshold", working_dtype(scores), labels)
    if not len(x):
        raise ValueError("at_threshold: no rows")
    positive = binary_labels("at_threshold", y, positive_from)
    called = x > threshold
    tp, k = (called & positive).sum()[None], called.sum()[None]
    n, total, hits, calls = len(x), int(positive.sum()), int(tp), int(k)
    return {
        "accuracy": (2 * hits + n - total - calls) / n,
        "f1": 2 * hits / max(1, calls + total),
        "precision": hits / max(1, calls),
        "recall": hits / max(1, total),
        "mcc": float(_matthews(tp, k, total, n)),
    }
