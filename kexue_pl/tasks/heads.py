"""The part of a multi-task model that belongs to one task: features in, loss and scores out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_pl.data.subtasks import Subtask, label_key
from kexue_pl.penalties import record_output

__all__ = ["ClassHead", "Head", "NumberHead", "PairHead", "TokenHead", "ValueHead", "make_head"]

Scores = dict[str, tuple[float, float]]


class Head(nn.Module):
    """Base of heads.

    Args:
        subtask: name, and the scale and shift of the loss.
    """

    metrics: tuple[str, ...] = ("loss",)
    tokens: bool = False  # reads the states of tokens, not one vector a text

    def __init__(self, subtask: Subtask) -> None:
        super().__init__()
        self.subtask = subtask

    def count(self, batch: dict[str, Tensor]) -> float:
        """Number of labels."""
        return float(self.labelled(batch).sum())

    def labelled(self, batch: dict[str, Tensor]) -> Tensor:
        """Which rows of the batch (tokens of the rows) have a label."""
        labels = batch[label_key(self.subtask.name)]
        return ~labels.isnan() if labels.is_floating_point() else labels >= 0

    def outputs(self, features: Tensor) -> Tensor:
        """What the loss compares with the labels."""
        raise NotImplementedError

    def compare(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """(n,) losses of the rows, neither scaled nor shifted."""
        raise NotImplementedError

    def score(self, outputs: Tensor, labels: Tensor) -> Scores:
        """Sums and counts of the metrics."""
        raise NotImplementedError

    def loss(self, features: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor | None, float]:
        """Mean loss over the labelled rows (None where there are none) and their number."""
        there = self.labelled(batch)
        count = int(there.sum())
        if count == 0:
            return None, 0.0
        labels = batch[label_key(self.subtask.name)]
        if count < len(features) or there.dim() > 1:
            features, labels = features[there], labels[there]
        outputs = self.outputs(features)
        # Two dimensions: a number is a row of one score, on which divergence=mse acts.
        record_output(outputs if outputs.ndim > 1 else outputs[:, None])
        return self.finish(self.compare(outputs, labels).mean()), float(count)

    def finish(self, loss: Tensor) -> Tensor:
        """Scale and shift, where the task has them."""
        task = self.subtask
        loss = loss if task.scale == 1 else loss * task.scale
        return loss if task.shift == 0 else loss + task.shift

    def scores(self, features: Tensor, batch: dict[str, Tensor]) -> Scores:
        """Sums over the labelled rows and their number, by metric; always with ``loss``."""
        there = self.labelled(batch)
        labels = batch[label_key(self.subtask.name)][there]
        outputs = self.outputs(features[there])
        total = self.compare(outputs, labels).sum() if len(labels) else features.new_zeros(())
        loss = float(total) * self.subtask.scale + self.subtask.shift * len(labels)
        return {"loss": (loss, len(labels))} | self.score(outputs, labels)


class ClassHead(Head):
    """One of K classes by cross-entropy, from the first vector of each row."""

    metrics = ("loss", "accuracy")

    def __init__(self, subtask: Subtask, hidden: int) -> None:
        super().__init__(subtask)
        self.linear = nn.Linear(hidden, subtask.classes)

    def outputs(self, features: Tensor) -> Tensor:
        """(n, K) logits of (n, S, H) features."""
        out: Tensor = self.linear(features[:, 0])
        return out

    def compare(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in float32."""
        return F.cross_entropy(outputs.float(), labels, reduction="none")

    def score(self, outputs: Tensor, labels: Tensor) -> Scores:
        """Accuracy."""
        return {"accuracy": (float((outputs.argmax(-1) == labels).sum()), len(labels))}


class PairHead(ClassHead):
    """Do the two texts of a row match: a classifier over [u, v, |u - v|, u * v]."""

    def __init__(self, subtask: Subtask, hidden: int) -> None:
        Head.__init__(self, subtask)
        self.linear = nn.Linear(4 * hidden, 2)

    def outputs(self, features: Tensor) -> Tensor:
        """(n, 2) logits of (n, 2, H) features."""
        u, v = features[:, 0], features[:, 1]
        out: Tensor = self.linear(torch.cat([u, v, (u - v).abs(), u * v], -1))
        return out


class TokenHead(ClassHead):
    """One of K classes for each labelled token, by cross-entropy: masked language modelling."""

    tokens = True

    def outputs(self, features: Tensor) -> Tensor:
        """(n, K) logits of (n, H) features."""
        out: Tensor = self.linear(features)
        return out


class NumberHead(Head):
    """A number by squared error, from the first vector of each row."""

    metrics = ("loss", "mae")

    def __init__(self, subtask: Subtask, hidden: int) -> None:
        super().__init__(subtask)
        self.linear = nn.Linear(hidden, 1)

    def outputs(self, features: Tensor) -> Tensor:
        """(n,) predictions."""
        out: Tensor = self.linear(features[:, 0])[:, 0]
        return out

    def compare(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Squared error in float32."""
        return (outputs.float() - labels.float()).square()

    def score(self, outputs: Tensor, labels: Tensor) -> Scores:
        """Mean absolute error."""
        return {"mae": (float((outputs.float() - labels.float()).abs().sum()), len(labels))}


class ValueHead(Head):
    """A loss that is a function of the shared point; no parameters, no labels.

    Args:
        subtask: name, scale and shift.
        function: the point (D,) to the loss.
    """

    def __init__(self, subtask: Subtask, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(subtask)
        self.function = function

    def count(self, batch: dict[str, Tensor]) -> float:
        """One: the function is always there."""
        return 1.0

    def loss(self, features: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor | None, float]:
        """The value of the function."""
        return self.finish(self.function(features)), 1.0

    def scores(self, features: Tensor, batch: dict[str, Tensor]) -> Scores:
        """The loss alone."""
        return {"loss": (float(self.finish(self.function(features))), 1.0)}


HEADS = {"classes": ClassHead, "pair": PairHead, "number": NumberHead, "tokens": TokenHead}


def make_head(subtask: Subtask, hidden: int) -> Head:
    """The head of a subtask over features of width ``hidden``.

    Raises:
        ValueError: a ``value`` task, whose loss only its data module knows.

    >>> make_head(Subtask("digit", "classes", classes=10), 4).linear.out_features
    10
    """
    if subtask.kind not in HEADS:
        raise ValueError(f"task {subtask.name}: kind {subtask.kind!r} has no head of its own")
    return HEADS[subtask.kind](subtask, hidden)
