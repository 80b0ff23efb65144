"""Text matching: do two texts mean the same, and how much (kexue.fm/archives/8847, 8860)."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kexue_pl.distributed import all_reduce_sum
from kexue_pl.losses import Loss, PairOutputs, cached_loss, check_interaction, split_batch
from kexue_pl.metrics import (
    best_threshold,
    expected_calibration_error,
    platt,
    platt_probabilities,
)
from kexue_pl.models.pair_model import PairModel
from kexue_pl.penalties import record_output
from kexue_pl.tasks.base import BaseTask, Penalty
from kexue_pl.tasks.pair_geometry import PairGeometry
from kexue_pl.tasks.pair_scores import PairScores, ScoreStore, correlations, decisions, positives

__all__ = ["MatchingTask"]

_LOG = logging.getLogger(__name__)


def check_labels(loss: Loss, data: Any) -> None:
    """Refuse training rows of one label value for a loss that learns from differences of labels.

    Raises:
        ValueError: all labels are equal and the loss takes neither positives nor bare texts.
    """
    train = data.tables.get("train")
    labels = set(train.columns.get("label", ())) if train is not None else set()
    without = {"positives", "triplets", "unsupervised"} & set(loss.data)
    if len(labels) == 1 and loss.data and not without:
        raise ValueError(
            f"data.train: all labels are {labels.pop()}, from which {type(loss).__name__} learns nothing; "
            "give rows of other labels, or take loss=info_nce where all pairs are positive"
        )


class MatchingTask(BaseTask):
    """Bi-encoder, late interaction or cross-encoder with any matching loss.

    The threshold that is best on the validation rows is part of the checkpoint, as are the two
    numbers that turn scores into probabilities; test and prediction use them. What the best threshold
    of the test itself would give is reported as ``oracle`` only.

    Args:
        data: pairs (:class:`kexue_pl.data.PairData`), set up and with a tokenizer.
        model: specification of the encoder, its pooling and its interaction.
        loss: a matching loss that the interaction can feed.
        attention: scaling of the attention, None for the usual one.
        optimizer: see :class:`BaseTask`.
        scheduler: see :class:`BaseTask`.
        penalty: see :class:`BaseTask`.
        positive_from: first label that counts as positive; None takes 0/1 labels as they are and
            gives graded ones no threshold.
        threshold_by: ``accuracy`` or ``f1``, what the threshold is best for.
        micro_batch: pairs that go through the model at once in training; the loss still sees the
            whole batch, exactly, by two passes. None for one pass.
        hardest: rows of the table of the worst errors.
    """

    monitor: ClassVar[str] = "val/spearman"
    monitor_mode: ClassVar[str] = "max"
    threshold: Tensor
    calibration: Tensor

    def __init__(
        self,
        *,
        data: Any,
        model: Any,
        loss: Loss,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        attention: Any = None,
        scheduler: Callable[..., LRScheduler] | None = None,
        penalty: Penalty | None = None,
        positive_from: float | None = None,
        threshold_by: str = "accuracy",
        micro_batch: int | None = None,
        hardest: int = 50,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, penalty=penalty)
        if threshold_by not in ("accuracy", "f1"):
            raise ValueError(f"task.threshold_by={threshold_by!r}: expected accuracy or f1")
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"task.micro_batch={micro_batch}: expected at least 1, or null")
        check_interaction(loss, model.interaction)
        check_labels(loss, data)
        self.criterion = loss
        self.model = PairModel.from_spec(
            model, data.tokenizer, outputs=loss.outputs, attention=attention
        )
        self.model.short_cuts = penalty is None  # penalties watch the layers
        loss.prepare(self.model.encoder.hidden_size)
        self.positive_from, self.threshold_by = positive_from, threshold_by
        self.micro_batch, self.hardest = micro_batch, hardest
        self.register_buffer("threshold", torch.tensor(math.nan))
        self.register_buffer("calibration", torch.full((2,), math.nan))
        self.store = ScoreStore()
        self.geometry = PairGeometry(self.model.encoder.hidden_size)
        self.spent = torch.zeros(2)  # seconds of scoring in the test, and pairs scored
        self.tested: PairScores | None = None
        self.data = data
        data.use(self.model.encoder, joined=self.model.joined)

    def on_train_start(self) -> None:
        """Say so where accumulation makes an in-batch loss another loss."""
        parts = self.trainer.accumulate_grad_batches
        if parts > 1 and getattr(self.criterion, "gather", False):
            _LOG.warning(
                "trainer.accumulate_grad_batches=%d: %s compares pairs within each of the %d batches only; "
                "data.batch_size=%d task.micro_batch=%d compares all, exactly",
                parts, type(self.criterion).__name__, parts,
                self.data.batch_size * parts, self.data.batch_size,
            )  # fmt: skip

    def embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.model.encoder.embeddings

    def outputs(self, batch: dict[str, Tensor], *, twins: bool = False) -> PairOutputs:
        """What the model says of a batch, as the losses read it.

        Args:
            batch: as :meth:`kexue_pl.data.PairData.collate` makes it.
            twins: every text twice, with different dropout, instead of the two texts of a pair.
        """
        model = self.model
        if model.interaction == "cross":
            return PairOutputs(logits=model.logits(batch))
        if model.interaction == "late":
            return PairOutputs(scores=model.similarities(batch))
        left, right = model.embeddings(batch)
        if twins:
            again, twin = model.embeddings(batch)
            return PairOutputs(left=torch.cat([left, right]), right=torch.cat([again, twin]))
        if "negative_ids" in batch:
            negative = model.embed(batch["negative_ids"], batch["negative_mask"])
            return PairOutputs(left=left, right=right, negatives=negative[:, None])
        return PairOutputs(left=left, right=right)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The matching loss of a batch."""
        twins = self.criterion.twins and self.training
        if self.micro_batch is None or not self.training:
            return self.objective(self.outputs(batch, twins=twins), batch.get("label"))
        return cached_loss(
            lambda micro: self.criterion.compact(self.outputs(micro, twins=twins)),
            split_batch(batch, self.micro_batch),
            lambda outputs: self.objective(outputs, batch.get("label")),
            self.parameters(),
        )

    def objective(self, outputs: PairOutputs, labels: Tensor | None) -> Tensor:
        """The loss of given outputs."""
        record_output(self._prediction(outputs))
        value: Tensor = self.criterion(outputs, labels)
        return value

    def _prediction(self, outputs: PairOutputs) -> Tensor:
        """(B, C) logits; where the model has one score, it counts as the log odds of a match."""
        if outputs.logits is not None and outputs.logits.ndim == 2 and outputs.logits.shape[1] > 1:
            return outputs.logits
        odds = self.criterion.score(outputs) * getattr(self.criterion, "scale", 1.0)
        return torch.stack([odds, torch.zeros_like(odds)], dim=-1)

    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """(B,) float32 scores, larger for pairs more alike."""
        return self.criterion.score(self.outputs(batch)).float()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the scores of a batch."""
        outputs = self.outputs(batch)
        self.store.add(batch["row_id"], self.criterion.score(outputs), batch["label"])

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the scores of a batch, and where its embeddings lie."""
        begin = time.perf_counter()
        outputs = self.outputs(batch)
        self.store.add(batch["row_id"], self.criterion.score(outputs), batch["label"])
        # The scores are on the host by now, so nothing is still under way on a device.
        self.spent += torch.tensor([time.perf_counter() - begin, len(batch["row_id"])])
        if outputs.left is not None and outputs.right is not None:
            truth = positives(batch["label"], self.positive_from)
            self.geometry.add(batch["row_id"], outputs.left, outputs.right, truth)

    def on_validation_epoch_end(self) -> None:
        """Choose the threshold and log the metrics of the validation rows."""
        found = self.store.join(self.device)
        truth = positives(found.labels, self.positive_from)
        metrics = correlations(found)
        if truth is not None and len(found):
            best = best_threshold(found.scores, truth)
            self.threshold.fill_(best[f"{self.threshold_by}_threshold"])
            self.calibration.copy_(platt(found.scores, truth))
            metrics |= self.decisions(found, truth)
        self._log("val", metrics)
        for name, value in self.criterion.diagnostics().items():
            self.log(f"train/{name}", value)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test rows at the threshold of the checkpoint."""
        found = self.tested = self.store.join(self.device)
        truth = positives(found.labels, self.positive_from)
        metrics = correlations(found)
        if truth is not None and len(found):
            metrics |= self.decisions(found, truth)
            best = best_threshold(found.scores, truth)
            for name in ("accuracy", "f1"):
                metrics[f"oracle_{name}"] = best[name]
            metrics["oracle_threshold"] = best[f"{self.threshold_by}_threshold"]
            likely = platt_probabilities(found.scores, self.calibration.cpu())
            metrics["ece"] = expected_calibration_error(likely, truth)
        if self.model.interaction == "bi":
            metrics |= self.geometry.join(self.device)
        seconds, rows = all_reduce_sum(self.spent.to(self.device)).tolist()
        self.spent = torch.zeros(2)
        metrics["us_per_pair"] = 1e6 * seconds / max(1, rows)
        self._log("test", metrics)

    def decisions(self, found: PairScores, truth: Tensor) -> dict[str, float]:
        """Metrics of the decisions that the stored threshold makes, and of the ranking."""
        threshold = float(self.threshold)
        if math.isnan(threshold):
            raise ValueError(
                "no threshold was chosen: the labels of the validation rows have no positive "
                "class; set task.positive_from"
            )
        return decisions(found.scores, truth, threshold)

    def _log(self, stage: str, metrics: dict[str, float]) -> None:
        """Log numbers that are the same on every rank."""
        if math.isnan(metrics["spearman"]):
            _LOG.warning("%s: all scores or all labels are equal, no correlation is defined", stage)
        values = {f"{stage}/{name}": value for name, value in metrics.items()}
        self.log_dict(values, prog_bar=False, sync_dist=False)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The hardest errors of the test."""
        from kexue_pl.report.matching import hardest_errors

        table = self.data.tables.get("test") or self.data.tables.get("valid")
        if self.tested is None or table is None:
            return {}
        rows, scores, labels, truth = self.tested.arrays(self.positive_from)
        hardest = hardest_errors(
            rows,
            scores,
            labels,
            truth=truth,
            threshold=float(self.threshold),
            table=table,
            count=self.hardest,
        )
        return {"hardest_errors": hardest}

    def plots(self, folder: Path) -> list[Path]:
        """Scores by label, ROC and precision-recall, thresholds, calibration."""
        from kexue_pl.report.matching import draw

        if self.tested is None or not len(self.tested):
            return []
        _, scores, labels, truth = self.tested.arrays(self.positive_from)
        return draw(scores, labels, truth=truth, threshold=float(self.threshold), folder=folder)
