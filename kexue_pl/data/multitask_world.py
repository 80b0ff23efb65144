"""Four text tasks from the embedded world of facts, on shared or on separate batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kexue_pl.data.base import DataModule
from kexue_pl.data.masking import IGNORED, MaskRule, choose, hide
from kexue_pl.data.mixture import SAMPLINGS, mixed_batches
from kexue_pl.data.subtasks import MISSING, Subtask, label_key, one_each
from kexue_pl.data.world import KINDS, pairs, questions

__all__ = ["MultitaskWorld"]

NAMES = ("relation", "kind", "match", "mlm")
SOURCE = "source"
"""Key of the task that a row belongs to where tasks have batches of their own."""


class MultitaskWorld(DataModule):
    """Pairs of questions: which relation does the first ask for, of what kind is its subject, do both
    ask for the same fact, and which tokens of it are hidden (masked language modelling).

    With ``sampling="shared"`` all tasks label the same rows, so gradients meet at one encoding; a
    batch holds the two texts of a row and, for ``mlm``, the first one with hidden tokens. Otherwise
    every task has rows of its own (``source_rows``) and batches come from one task at a time or, in
    ``joint`` batches, from all; the gradients of the tasks then meet in the parameters only. The rows
    of validation and test are labelled by all tasks. Test questions have subjects and wordings that
    training has not; a relation that training lacks is a missing label.

    Args:
        train_rows, valid_rows, test_rows: pairs of each split.
        max_length: most tokens of one text.
        tasks: some of ``relation``, ``kind``, ``match``, ``mlm``.
        scales: factor of each task's loss.
        sampling: ``shared``, ``round_robin``, ``proportional``, ``temperature`` or ``joint``; see
            :func:`kexue_pl.data.mixture.mixed_batches`.
        source_rows: training pairs of each task where they are separate; None divides ``train_rows``
            evenly.
        temperature: of ``temperature`` sampling, > 0.
        mask_rate: share of the tokens that ``mlm`` hides, between 0 and 1.
        batch_size, eval_batch_size, num_workers, seed: see :class:`DataModule`.

    Raises:
        ValueError: an unknown task or sampling, or numbers that do not fit the tasks.
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
        tasks: Sequence[str] = NAMES,
        scales: Sequence[float] | None = None,
        sampling: str = "shared",
        source_rows: Sequence[int] | None = None,
        temperature: float = 2.0,
        mask_rate: float = 0.15,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.names = list(tasks)
        if not self.names or set(self.names) - set(NAMES) or len(set(self.names)) < len(self.names):
            raise ValueError(f"data.tasks={self.names}: expected some of {', '.join(NAMES)}")
        if sampling not in ("shared", *SAMPLINGS):
            raise ValueError(f"data.sampling={sampling!r}: expected shared, {', '.join(SAMPLINGS)}")
        if not 0 < mask_rate < 1:
            raise ValueError(f"data.mask_rate={mask_rate}: must lie between 0 and 1")
        self.sampling, self.temperature, self.mask_rate = sampling, temperature, mask_rate
        each = one_each(source_rows, len(self.names), train_rows // len(self.names), "source_rows")
        self.source_rows = [int(rows) for rows in each]
        train = train_rows if sampling == "shared" else sum(self.source_rows)
        self.sizes = {"train": train, "valid": valid_rows, "test": test_rows}
        self.max_length = max_length
        self.scales = one_each(scales, len(self.names), 1.0, "data.scales")
        self.relations: dict[str, int] = {}
        self.special_tokens = True  # the task asks its encoder

    @property
    def disjoint(self) -> bool:
        """Whether the tasks have batches (or rows of a batch) of their own."""
        return self.sampling != "shared"

    @property
    def subtasks(self) -> list[Subtask]:
        """The tasks; ``mlm`` has as many classes as the tokenizer has tokens."""
        sizes = {"relation": len(self.relations), "kind": len(KINDS), "match": 2}
        kinds: dict[str, Any] = {"match": "pair", "mlm": "tokens"}
        return [
            Subtask(
                name,
                kinds.get(name, "classes"),
                classes=len(self.tokenizer) if name == "mlm" else sizes[name],
                scale=scale,
            )
            for name, scale in zip(self.names, self.scales)
        ]

    def setup(self, stage: str) -> None:
        """Draw the pairs of the three splits and name the relations."""
        if self.train_set is not None:
            return
        relations = sorted({q.predicate for q in questions(self.seed, "train")})
        self.relations = {name: i for i, name in enumerate(relations)}
        sets = [self._rows(split) for split in ("train", "valid", "test")]
        self.train_set, self.valid_set, self.test_set = sets
        if self.disjoint:
            owners = [t for t, rows in enumerate(self.source_rows) for _ in range(rows)]
            for row, owner in zip(sets[0], owners):
                row[SOURCE] = self.names[owner]

    def _rows(self, split: str) -> list[dict[str, Any]]:
        kinds = {kind: i for i, kind in enumerate(KINDS.values())}
        rows = []
        for pair in pairs(self.seed, split, count=self.sizes[split]):
            labels = {
                "relation": self.relations.get(pair.fact.predicate, MISSING),
                "kind": kinds[pair.fact.kind],
                "match": pair.label,
            }
            rows.append(
                {"text1": pair.text1, "text2": pair.text2}
                | {label_key(name): value for name, value in labels.items() if name in self.names}
                | {"drawn": split == "train"}
            )
        return rows

    def train_batches(self, epoch: int) -> Sequence[list[int]]:
        """Shuffled rows, or batches of the tasks' own rows."""
        if not self.disjoint:
            return super().train_batches(epoch)
        return mixed_batches(
            self.source_rows,
            self.batch_size,
            sampling=self.sampling,
            temperature=self.temperature,
            seed=self.seed,
            epoch=epoch,
        )

    def texts(self) -> Iterable[str]:
        """All training questions."""
        for row in self.train_set or []:
            yield row["text1"]
            yield row["text2"]

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Token ids (B, S, L), mask and labels; S texts a row, as many as the batch's tasks read.

        ``label_mlm`` is (B, S, L), -100 but on the hidden tokens, which are all in the last text.
        """
        here = [name for name in self.names if any(row.get(SOURCE, name) == name for row in rows)]
        keys = ["text1"] if here != ["mlm"] else []
        keys += ["text2"] * ("match" in here) + ["text1"] * ("mlm" in here)
        found = self.tokenizer(
            [row[key] for row in rows for key in keys],
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
            return_token_type_ids=False,
            add_special_tokens=self.special_tokens,
        )
        shape = (len(rows), len(keys), -1)
        batch = {
            "input_ids": found["input_ids"].view(shape),
            "attention_mask": found["attention_mask"].view(shape),
            "row_id": torch.tensor([row["row_id"] for row in rows]),
        }
        for name in self.names:
            if name == "mlm":
                batch[label_key(name)] = self._hide(rows, batch)
            else:
                key = label_key(name)
                own = [row[key] if row.get(SOURCE, name) == name else MISSING for row in rows]
                batch[key] = torch.tensor(own)
        return batch

    def _hide(self, rows: list[dict[str, Any]], batch: dict[str, Tensor]) -> Tensor:
        """Hide tokens of the last text of the rows that ``mlm`` owns; their labels."""
        labels = torch.full_like(batch["input_ids"], IGNORED)
        special = sorted(self.tokenizer.all_special_ids)
        rule = MaskRule(
            rate=self.mask_rate,
            mask_id=self.tokenizer.mask_token_id,
            vocab_size=len(self.tokenizer),
            first=len(special) if special == list(range(len(special))) else 0,
        )
        for i, row in enumerate(rows):
            if row.get(SOURCE, "mlm") != "mlm":
                continue
            ids = batch["input_ids"][i, -1].numpy()
            places = np.flatnonzero(batch["attention_mask"][i, -1].numpy() * ~np.isin(ids, special))
            if not len(places):
                continue
            generator = np.random.default_rng([self.seed, row["epoch"], row["row_id"]])
            chosen = choose(ids[places], rule, generator)
            drawn = generator if row["drawn"] else None
            inputs, wanted = hide(ids[places], chosen, rule, drawn)
            batch["input_ids"][i, -1, places] = torch.from_numpy(inputs)
            labels[i, -1, places] = torch.from_numpy(wanted)
        return labels
