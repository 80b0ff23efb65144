"""Training and scoring of one cell of the table that `matching.py` prints: all twelve combinations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kexue_pl.data.files import Files
from kexue_pl.losses import CoSENT, CosineMSE, InfoNCE, Loss, PairOutputs, SBERTSoftmax, Softmax
from kexue_pl.metrics import at_threshold, best_threshold, spearman
from kexue_pl.models import Static
from kexue_pl.models.pair_model import PairModel
from kexue_pl.optim.schedules import linear
from kexue_pl.tasks.base import decay_groups

SETS = {
    "LCQMC": ("valid", "test", 1, 4),
    "BQ": ("valid", "test", 1, 4),
    "ATEC": ("valid", "test", 1, 2),
    "STS-B": ("train", "valid", 5, 6),
}
"""Set -> parts for training and for the report, largest label, epochs."""

WIDTH = {"bi": 256, "late": 256, "cross": 128}
BATCH, NEGATIVES = 128, 3


@dataclass(frozen=True)
class Cell:
    """One training: which set, interaction and loss, with which settings."""

    name: str
    interaction: str
    loss: str
    rate: float
    scale: float
    seed: int = 0

    def file(self, out: Path) -> Path:
        """Where its result is kept."""
        words = (self.name, self.interaction, self.loss.replace(" ", "_"))
        return out / f"{'-'.join(words)}-{self.rate:g}-{self.scale:g}-{self.seed}.npz"

    @property
    def top(self) -> int:
        """The largest label of the set."""
        return SETS[self.name][2]


class Model(nn.Module):
    """A pair model with a loss, in all twelve combinations."""

    def __init__(self, cell: Cell, tokenizer: Any) -> None:
        super().__init__()
        self.cell = cell
        self.criterion = criterion(cell)
        spec = Static(hidden_size=WIDTH[cell.interaction], interaction=cell.interaction)
        self.pair = PairModel.from_spec(spec, tokenizer, outputs=self.criterion.outputs)
        self.criterion.prepare(spec.hidden_size)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The training loss of a batch."""
        how, model, labels = self.cell.interaction, self.pair, batch["label"]
        found: Tensor
        if self.cell.loss == "InfoNCE" and how != "bi":
            found = self._contrast(batch)
        elif self.cell.loss in ("InfoNCE", "SBERT softmax") and how != "cross":
            left, right = (self._pooled(batch, side) for side in ("left", "right"))
            found = self.criterion(PairOutputs(left=left, right=right), labels)
        elif how == "cross":
            found = self.criterion(PairOutputs(logits=model.logits(batch)), labels)
        else:
            found = self.criterion(PairOutputs(scores=self.scores(batch)), labels)
        return found

    def scores(self, batch: dict[str, Tensor]) -> Tensor:
        """(B,) what ranks the pairs."""
        how, model = self.cell.interaction, self.pair
        if how == "cross":
            return self.criterion.score(PairOutputs(logits=model.logits(batch)))
        if how == "late":
            return model.similarities(batch)
        left, right = model.embeddings(batch)
        return torch.cosine_similarity(left, right)

    def _pooled(self, batch: dict[str, Tensor], side: str) -> Tensor:
        return self.pair.embed(batch[f"{side}_ids"], batch[f"{side}_mask"])

    def _contrast(self, batch: dict[str, Tensor]) -> Tensor:
        """InfoNCE where both texts are needed for a score: few in-batch negatives, all scored."""
        labels = batch["label"]
        anchors = (labels >= positive_from(self.cell)).nonzero()[:, 0]
        columns = []
        for shift in range(NEGATIVES + 1):
            other = (anchors + shift) % len(labels)
            pairs = {k: v[anchors if k.startswith("left") else other] for k, v in batch.items()}
            columns.append(self.scores(pairs))
        scale = 1.0 if self.cell.interaction == "cross" else self.cell.scale
        table = scale * torch.stack(columns, 1)
        return cross_entropy(table, torch.zeros_like(anchors))


def positive_from(cell: Cell) -> float:
    """First label that InfoNCE takes as a match."""
    return 4.0 if cell.top == 5 else 1.0


def criterion(cell: Cell) -> Loss:
    """The loss of a cell."""
    if cell.loss == "CoSENT":
        return CoSENT(cell.scale)
    if cell.loss == "cosine MSE":
        return CosineMSE(label_max=cell.top)
    if cell.loss == "InfoNCE":
        return InfoNCE(cell.scale, positive_from=positive_from(cell))
    kind = Softmax if cell.interaction == "cross" else SBERTSoftmax
    return kind(classes=cell.top + 1)


def load(folder: Path, name: str) -> Files:
    """The rows of a set, held out, checked and tokenized."""
    first, second = SETS[name][:2]
    data = Files(
        train=str(folder / f"{name}.{first}.data"),
        test=str(folder / f"{name}.{second}.data"),
        batch_size=BATCH,
        bucket=True,
    )
    data.setup("fit")
    spec = Static()
    data.tokenizer = spec.train_tokenizer(data.texts())
    data.use(spec.build(data.tokenizer), joined=False)
    return data


def fit(cell: Cell, data: Files) -> tuple[Model, float]:
    """Train one cell; the model and the CPU seconds that training took."""
    torch.manual_seed(cell.seed)
    data.seed = cell.seed
    model = Model(cell, data.tokenizer)
    begin, epochs = time.process_time(), SETS[cell.name][3]
    optimizer = torch.optim.AdamW(decay_groups(model), lr=cell.rate, weight_decay=0.01, fused=True)
    steps = epochs * len(data.train_batches(0))
    schedule = linear(optimizer, total_steps=steps, warmup=0.05)
    parameters = list(model.parameters())
    for epoch in range(epochs):
        for rows in data.train_batches(epoch):
            loss = model.loss(data.collate([data.train_set[row] for row in rows]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    return model, time.process_time() - begin


@torch.inference_mode()
def score(model: Model, data: Files, rows: Any) -> tuple[np.ndarray, float]:
    """Scores of all rows in their order, and CPU microseconds a pair."""
    model.eval()
    order = rows.lengths().argsort(kind="stable")
    found, spent = np.empty(len(rows), np.float32), 0.0
    for part in np.array_split(order, -(-len(order) // 256)):
        batch = data.collate([rows[int(row)] for row in part])
        begin = time.process_time()
        found[part] = model.scores(batch).numpy()
        spent += time.process_time() - begin
    return found, 1e6 * spent / len(rows)


def ranking(scores: Any, labels: Any) -> float:
    """Spearman; 0 for a model that collapsed to one score, which ranks nothing."""
    return spearman(scores, labels) if np.ptp(scores) > 0 else 0.0


def run(cell: Cell, data: Files, out: Path) -> dict[str, Any]:
    """The result of a cell, from OUT if it is there."""
    path = cell.file(out)
    if not path.is_file():
        model, seconds = fit(cell, data)
        held, _ = score(model, data, data.valid_set)
        test, cost = score(model, data, data.test_set)
        out.mkdir(parents=True, exist_ok=True)
        with open(path.with_suffix(".part"), "wb") as file:
            np.savez(file, held=held, test=test, seconds=seconds, cost=cost)
        path.with_suffix(".part").replace(path)
    with np.load(path) as kept:
        found: dict[str, Any] = {name: kept[name] for name in kept}
    found["held_spearman"] = ranking(found["held"], data.valid_set.labels)
    found["spearman"] = ranking(found["test"], data.test_set.labels)
    if cell.top == 1:
        best = best_threshold(found["held"], data.valid_set.labels)
        threshold = best["accuracy_threshold"]
        found["accuracy"] = at_threshold(found["test"], data.test_set.labels, threshold)["accuracy"]
    return found
