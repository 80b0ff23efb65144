"""Three text tasks that share every batch, from the embedded world of facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from kexue_pl.data.base import DataModule
from kexue_pl.data.subtasks import MISSING, Subtask, label_key, one_each
from kexue_pl.data.world import KINDS, pairs, questions

__all__ = ["MultitaskWorld"]

NAMES = ("relation", "kind", "match")


class MultitaskWorld(DataModule):
    """Pairs of questions: which relation does the first ask for, of what kind is its subject, do both
    ask for the same fact.

    All tasks label the same rows, so gradients meet at one encoding. Test questions have subjects and
    wordings that training has not; a relation that training lacks is a missing label.

    Args:
        train_rows, valid_rows, test_rows: pairs of each split.
        max_length: most tokens of one text.
        scales: factor of each task's loss (relation, kind, match).
        batch_size, eval_batch_size, num_workers, seed: see :class:`DataModule`.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        eval_batch_size: int | None = 256,
        num_workers: int = 0,
        seed: int = 0,
        train_rows: int = 4000,
        valid_rows: int = 500,
        test_rows: int = 1000,
        max_length: int = 48,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.sizes = {"train": train_rows, "valid": valid_rows, "test": test_rows}
        self.max_length = max_length
        self.scales = one_each(scales, 3, 1.0, "data.scales")
        self.subtasks: list[Subtask] = []
        self.special_tokens = True  # the task asks its encoder

    def setup(self, stage: str) -> None:
        """Draw the pairs of the three splits and name the classes."""
        if self.train_set is not None:
            return
        relations = sorted({q.predicate for q in questions(self.seed, "train")})
        number = {name: i for i, name in enumerate(relations)}
        self.train_set, self.valid_set, self.test_set = (
            self._rows(split, number) for split in ("train", "valid", "test")
        )
        self.subtasks = [
            Subtask("relation", "classes", classes=len(relations), scale=self.scales[0]),
            Subtask("kind", "classes", classes=len(KINDS), scale=self.scales[1]),
            Subtask("match", "pair", scale=self.scales[2]),
        ]

    def _rows(self, split: str, relations: dict[str, int]) -> list[dict[str, Any]]:
        kinds = {kind: i for i, kind in enumerate(KINDS.values())}
        rows = []
        for pair in pairs(self.seed, split, count=self.sizes[split]):
            rows.append(
                {
                    "text1": pair.text1,
                    "text2": pair.text2,
                    label_key("relation"): relations.get(pair.fact.predicate, MISSING),
                    label_key("kind"): kinds[pair.fact.kind],
                    label_key("match"): pair.label,
                }
            )
        return rows

    def texts(self) -> Iterable[str]:
        """All training questions."""
        for row in self.train_set or []:
            yield row["text1"]
            yield row["text2"]

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Token ids (B, 2, L), mask and labels."""
        texts = [row[key] for row in rows for key in ("text1", "text2")]
        found = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
            return_token_type_ids=False,
            add_special_tokens=self.special_tokens,
        )
        shape = (len(rows), 2, -1)
        batch = {
            "input_ids": found["input_ids"].view(shape),
            "attention_mask": found["attention_mask"].view(shape),
            "row_id": torch.tensor([row["row_id"] for row in rows]),
        }
        for name in NAMES:
            batch[label_key(name)] = torch.tensor([row[label_key(name)] for row in rows])
        return batch
