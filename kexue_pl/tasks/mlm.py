"""Masked language modelling, trained at one length and tested at many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kexue_pl.attention import Calibrated, EntropyProbe, Scaling, calibrate, log_slope
from kexue_pl.data.lengths import LengthsData
from kexue_pl.data.masking import IGNORED
from kexue_pl.distributed import all_reduce_sum, world_size
from kexue_pl.models.precision import bf16_pays
from kexue_pl.penalties import record_output
from kexue_pl.tasks.base import BaseTask, Penalty

__all__ = ["MLMTask", "Tally"]


class Tally:
    """Sums over predictions, added over ranks when read.

    >>> tally = Tally()
    >>> tally.add(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    >>> tally.read()["accuracy"]
    0.5
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count predictions: logits (M, V), labels (M,)."""
        losses = F.cross_entropy(logits.float(), labels, reduction="sum")
        hits = (logits.argmax(-1) == labels).sum()
        count = torch.tensor(len(labels), device=losses.device)
        self.sums = self.sums.to(losses.device) + torch.stack([hits, losses, count]).double()

    def read(self) -> dict[str, float]:
        """Accuracy in 0 ... 1, loss in nats, perplexity; over all ranks."""
        hits, losses, count = all_reduce_sum(self.sums).tolist()
        loss = losses / max(count, 1.0)
        return {
            "accuracy": hits / max(count, 1.0),
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
        }


class MLMTask(BaseTask):
    """Predict hidden tokens; kexue.fm/archives/8823 asks how that holds up at unseen lengths.

    Trains at ``data.train_length``; the test runs at every one of ``data.eval_lengths``, on the
    same hidden tokens where the data is text, and logs ``test/accuracy@n``, ``test/loss@n``,
    ``test/perplexity@n``, ``test/entropy@n`` (mean over layers and heads, nats) and
    ``test/entropy_slope`` (of the entropy in log n).

    Args:
        data: rows and lengths.
        model: specification of the model.
        optimizer: see :class:`BaseTask`.
        scheduler: see :class:`BaseTask`.
        penalty: see :class:`BaseTask`.
        attention: the scaling of the logits; None = the standard one.
        entropy_batches: test batches of each length whose attention entropy is measured.
        calibration_rows: rows of each length on which a calibrated scaling is fitted before the
            test.
        bf16: run the model under bfloat16 autocast; None = where the device gains by it and
            ``trainer.precision`` is 32-true.
    """

    monitor = "val/loss"
    monitor_mode = "min"

    def __init__(
        self,
        *,
        data: LengthsData,
        model: Any,
        optimizer: Callable[[Iterable[Any]], Optimizer],
        scheduler: Callable[..., LRScheduler] | None = None,
        penalty: Penalty | None = None,
        attention: Scaling | None = None,
        entropy_batches: int = 2,
        calibration_rows: int = 8,
        bf16: bool | None = None,
    ) -> None:
        super().__init__(optimizer=optimizer, scheduler=scheduler, penalty=penalty)
        self.lengths = data.eval_lengths
        self.net = model.build(
            data.tokenizer,
            attention=attention,
            segments=data.segments,
            train_length=data.train_length,
            proportions=data.proportions,
        )
        self.bf16 = bf16
        self.entropy_batches, self.calibration_rows = entropy_batches, calibration_rows
        self.results: dict[int, dict[str, float]] = {}
        self.entropies: dict[int, Tensor] = {}
        self._data = [data]  # in a list: not a part of the module

    def embeddings(self) -> nn.Module:
        """The word embeddings."""
        words: nn.Module = self.net.embeddings
        return words

    def predict(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (M, V) and labels (M,) of the hidden tokens of a batch."""
        chosen = batch["labels"] != IGNORED
        with self._autocast():
            logits = self.net(
                batch["input_ids"],
                chosen,
                attention_mask=batch.get("attention_mask"),
                token_type_ids=batch.get("token_type_ids"),
            )
        return logits, batch["labels"][chosen]

    def _autocast(self) -> AbstractContextManager[Any]:
        wanted = self.bf16
        if wanted is None:
            plain = self._trainer is None or self._trainer.precision == "32-true"
            wanted = plain and bf16_pays(self.device, self.net.model.config.hidden_size)
        return torch.autocast(self.device.type, torch.bfloat16) if wanted else nullcontext()

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross entropy of the hidden tokens of all ranks, nats."""
        logits, labels = self.predict(batch)
        record_output(logits)
        total = F.cross_entropy(logits.float(), labels, reduction="sum")
        # Ranks hide unequal numbers of tokens; gradients are averaged over ranks afterwards.
        count = torch.tensor([labels.numel()], dtype=total.dtype, device=total.device)
        return total * (world_size() / all_reduce_sum(count))[0]

    def on_validation_epoch_start(self) -> None:
        """Begin a new count."""
        self._valid = Tally()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Count predictions at the training length."""
        self._valid.add(*self.predict(batch))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/accuracy``, ``val/loss`` and ``val/perplexity``."""
        for name, value in self._valid.read().items():
            self.log(f"val/{name}", value, prog_bar=name == "accuracy", rank_zero_only=False)

    def on_test_start(self) -> None:
        """Fit a calibrated scaling, and begin the counts of every length."""
        if isinstance(self.net.function.scaling, Calibrated):
            self.calibrate()
        self._counts = [Tally() for _ in self.lengths]
        self._probes = [EntropyProbe(self.net.function) for _ in self.lengths]

    def calibrate(self) -> None:
        """Fit the calibrated scalings at every length, on rows that are not part of the test."""
        data = self._data[0]
        batches = {}
        for n in sorted({data.train_length, *self.lengths}):
            if n >= data.train_length:
                inputs = data.calibration(n, self.calibration_rows)
                inputs = {name: value.to(self.device) for name, value in inputs.items()}
                batches[n] = inputs | {"chosen": torch.zeros_like(inputs["input_ids"]).bool()}
        with torch.inference_mode(False), torch.no_grad():
            calibrate(self.net, self.net.function, batches)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count predictions at one length; measure entropies in its first batches."""
        if batch_idx < self.entropy_batches:
            with self._probes[dataloader_idx]:
                logits, labels = self.predict(batch)
        else:
            logits, labels = self.predict(batch)
        self._counts[dataloader_idx].add(logits, labels)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of every length and the slope of the entropy."""
        for n, tally, probe in zip(self.lengths, self._counts, self._probes):
            self.results[n] = tally.read()
            sums, rows = (all_reduce_sum(part) for part in probe.totals())
            self.entropies[n] = (sums / rows.clamp_min(1)).cpu()
            self.results[n]["entropy"] = float(self.entropies[n].mean())
            for name, value in self.results[n].items():
                self.log(f"test/{name}@{n}", value, rank_zero_only=False)
        if len(self.lengths) > 1:
            means = [self.results[n]["entropy"] for n in self.lengths]
            self.log("test/entropy_slope", log_slope(self.lengths, means))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """``lengths``: metrics of each length; ``entropy``: of every layer and head."""
        if not self.results:
            return {}
        lengths = [{"length": n, **values} for n, values in self.results.items()]
        return {"lengths": lengths, "entropy": self._entropy_rows()}

    def _entropy_rows(self) -> list[dict[str, Any]]:
        layers, heads = self.entropies[self.lengths[0]].shape
        rows = []
        for layer in range(layers):
            for head in range(heads):
                means = [float(self.entropies[n][layer, head]) for n in self.lengths]
                row: dict[str, Any] = {"layer": layer, "head": head}
                row |= {f"entropy@{n}": mean for n, mean in zip(self.lengths, means)}
                if len(self.lengths) > 1:
                    row["slope"] = log_slope(self.lengths, means)
                rows.append(row)
        return rows

    def plots(self, folder: Path) -> list[Path]:
        """Accuracy against length, and attention entropy against length for every layer."""
        if len(self.results) < 2:
            return []
        from kexue_pl.report.lengths import plot_accuracy, plot_entropy

        accuracies = {n: values["accuracy"] for n, values in self.results.items()}
        return [
            plot_accuracy({"": [accuracies]}, folder / "accuracy_by_length.png"),
            plot_entropy(self.entropies, folder / "entropy_by_length.png"),
        ]
