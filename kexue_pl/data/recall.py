"""Associative recall as masked language modelling: the task where only the length changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from kexue_pl.data.lengths import LengthsData, check_lengths
from kexue_pl.data.masking import IGNORED

__all__ = ["Recall", "RecallRows"]


class RecallRows(Sequence[dict[str, Any]]):
    """Rows of recall, all drawn at once from a seed.

    A row of length n holds n/2 different keys, each at two places: once with its value, once with
    the value hidden, in random order. ``token_type_ids`` are keys, ``input_ids`` values or the
    mask.

    Args:
        rows: number of rows.
        length: n, even.
        keys: number of keys, at least n/2.
        values: number of values.
        seed: of everything.
    """

    def __init__(self, rows: int, length: int, *, keys: int, values: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        half = length // 2
        parts = [
            torch.rand(min(1024, rows - start), keys, generator=generator).topk(half).indices
            for start in range(0, rows, 1024)
        ]
        key = torch.cat(parts)
        value = torch.randint(1, values + 1, (rows, half), generator=generator)
        order = torch.rand(rows, length, generator=generator).argsort(1)
        hidden = torch.cat([torch.zeros_like(value), torch.ones_like(value)], 1).bool()
        value = torch.cat([value, value], 1)
        self.keys = torch.cat([key, key], 1).gather(1, order).to(torch.int16)
        self.seen = value.masked_fill(hidden, 0).gather(1, order).to(torch.int16)
        self.labels = value.masked_fill(~hidden, IGNORED).gather(1, order).to(torch.int16)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> dict[str, Any]:  # type: ignore[override]
        return {
            "input_ids": self.seen[row],
            "token_type_ids": self.keys[row],
            "labels": self.labels[row],
        }


class Recall(LengthsData):
    """Keys with values, half of them hidden: attention must find the other place of the key.

    Without positions nothing but the number of tokens changes with the length, so what is lost at
    longer rows is lost to attention that spreads; kexue.fm/archives/8823.

    Args:
        train_length: tokens of a training row, even.
        eval_lengths: tokens of the rows of the test, even.
        rows: training rows; one pass over them is an epoch.
        keys: number of different keys, at least half the longest row.
        values: number of different values.
        test_tokens: hidden values of the test at each length.
        batch_size: rows of a training batch.
        num_workers: loader processes.
        seed: of the training rows; the test does not depend on it.
    """

    proportions: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 32,
        "layers": 2,
        "heads": 2,
        "positions": "none",
    }

    def __init__(
        self,
        *,
        train_length: int = 64,
        eval_lengths: Sequence[int] = (64, 128, 256, 512, 1024),
        rows: int = 32_768,
        keys: int = 1024,
        values: int = 32,
        test_tokens: int = 4096,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        lengths = check_lengths(eval_lengths)
        for name, length in (("train_length", train_length), ("eval_lengths", lengths[0])):
            if length % 2:
                raise ValueError(f"data.{name}={length}: must be even, each key has two places")
        if keys * 2 < max(train_length, lengths[-1]):
            raise ValueError(
                f"data.keys={keys}: must be at least half the longest row, "
                f"{max(train_length, lengths[-1]) // 2}"
            )
        super().__init__(
            train_length=train_length,
            eval_lengths=lengths,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.number, self.keys, self.values = rows, keys, values
        self.test_tokens = test_tokens
        self.segments = keys

    def setup(self, stage: str) -> None:
        """Draw the training and validation rows, and the vocabulary of values."""
        if self.train_set is None:
            self.train_set = self._rows(self.number, self.train_length, 2 * self.seed + 1)
            self.valid_set = self._rows(256, self.train_length, 2)
            self.test_set = self.length_set(max(self.eval_lengths))
        if self.tokenizer is None:
            self.tokenizer = value_tokenizer(self.values)

    def _rows(self, rows: int, length: int, seed: int) -> RecallRows:
        return RecallRows(rows, length, keys=self.keys, values=self.values, seed=seed)

    def length_set(self, length: int) -> RecallRows:
        """Rows of a length with ``test_tokens`` hidden values between them."""
        return self._rows(max(1, self.test_tokens // (length // 2)), length, 4 + 2 * length)

    def calibration(self, length: int, rows: int) -> dict[str, Tensor]:
        """Inputs drawn apart from training and test."""
        drawn = self._rows(rows, length, 6_000_000 + 2 * length)
        batch = self.collate([drawn[row] for row in range(rows)])
        return {name: batch[name] for name in ("input_ids", "token_type_ids")}

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """``input_ids``, ``token_type_ids`` and ``labels``, each (B, n) int64."""
        names = ("input_ids", "token_type_ids", "labels")
        return {name: torch.stack([row[name] for row in rows]).long() for name in names}


def value_tokenizer(values: int) -> Any:
    """A vocabulary of the mask (id 0), the values 1 ... ``values`` and padding, which never occurs.

    >>> len(value_tokenizer(32))
    34
    """
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = ["[MASK]", *(f"v{number}" for number in range(1, values + 1)), "[PAD]"]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "[MASK]"))
    return PreTrainedTokenizerFast(tokenizer_object=core, mask_token="[MASK]", pad_token="[PAD]")
