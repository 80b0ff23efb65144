"""Metrics: functional cores that take tensors, and `torchmetrics.Metric`s over them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kexue_pl.metrics.alignment import alignment
from kexue_pl.metrics.best_threshold import at_threshold, best_threshold
from kexue_pl.metrics.calibration import calibration_curve, expected_calibration_error
from kexue_pl.metrics.mcnemar import McNemar, mcnemar
from kexue_pl.metrics.pearson import pearson
from kexue_pl.metrics.platt import platt, platt_probabilities
from kexue_pl.metrics.retrieval import ndcg_at, ranked, recall_at, reciprocal_rank_at
from kexue_pl.metrics.spearman import mean_ranks, spearman
from kexue_pl.metrics.uniformity import uniformity

if TYPE_CHECKING:
    from kexue_pl.metrics.states import (
        Alignment,
        BestThreshold,
        Calibration,
        Pearson,
        Retrieval,
        Spearman,
        Uniformity,
    )

__all__ = [
    "Alignment",
    "BestThreshold",
    "Calibration",
    "McNemar",
    "Pearson",
    "Retrieval",
    "Spearman",
    "Uniformity",
    "alignment",
    "at_threshold",
    "best_threshold",
    "calibration_curve",
    "expected_calibration_error",
    "mcnemar",
    "mean_ranks",
    "ndcg_at",
    "pearson",
    "platt",
    "platt_probabilities",
    "ranked",
    "recall_at",
    "reciprocal_rank_at",
    "spearman",
    "uniformity",
]


def __getattr__(name: str) -> type:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Torchmetrics loads matplotlib, scipy and transformers; the functions need none of them.
    from kexue_pl.metrics import states

    found: type = getattr(states, name)
    return found
