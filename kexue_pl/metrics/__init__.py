"""Metrics: functional cores that take tensors, and `torchmetrics.Metric`s over them."""

from kexue_pl.metrics.alignment import Alignment, alignment
from kexue_pl.metrics.best_threshold import BestThreshold, at_threshold, best_threshold
from kexue_pl.metrics.calibration import (
    Calibration,
    calibration_curve,
    expected_calibration_error,
)
from kexue_pl.metrics.pearson import Pearson, pearson
from kexue_pl.metrics.retrieval import (
    Retrieval,
    ndcg_at,
    ranked,
    recall_at,
    reciprocal_rank_at,
)
from kexue_pl.metrics.spearman import Spearman, mean_ranks, spearman
from kexue_pl.metrics.uniformity import Uniformity, uniformity

__all__ = [
    "Alignment",
    "BestThreshold",
    "Calibration",
    "Pearson",
    "Retrieval",
    "Spearman",
    "Uniformity",
    "alignment",
    "at_threshold",
    "best_threshold",
    "calibration_curve",
    "expected_calibration_error",
    "mean_ranks",
    "ndcg_at",
    "pearson",
    "ranked",
    "recall_at",
    "reciprocal_rank_at",
    "spearman",
    "uniformity",
]
