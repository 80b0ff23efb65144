"""Masked language modelling on long text: short rows to train on, the same text at every length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kexue_pl.data.lengths import LengthsData, check_lengths
from kexue_pl.data.masking import MaskRule, WordEdges, choose, hide
from kexue_pl.data.packing import pack
from kexue_pl.documents import Documents

__all__ = ["Chunks", "MaskedText", "Split"]

Split = Literal["train", "valid", "test"]


class Chunks(Sequence[dict[str, Any]]):
    """Rows of a given length cut from a run of tokens, with fixed masks or none.

    Masks are drawn a block of ``block`` tokens at a time from (seed, block number), whatever the
    length of the rows, so the very same tokens are hidden when the text is cut into longer rows:
    lengths are compared on the same predictions.

    Args:
        tokens: ids (N,).
        length: tokens of a row.
        rows: number of rows.
        rule: how to hide for evaluation; None leaves rows whole.
        block: tokens of a block, a divisor of the length.
        seed: of the masks.
    """

    def __init__(
        self,
        tokens: NDArray[np.int32],
        length: int,
        rows: int,
        *,
        rule: MaskRule | None = None,
        block: int = 1,
        seed: int = 0,
    ) -> None:
        self.tokens, self.length, self.rows = tokens, length, rows
        self.rule, self.block, self.seed = rule, block, seed

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Any]:  # type: ignore[override]
        if not -self.rows <= row < self.rows:
            raise IndexError(row)
        start = row % self.rows * self.length
        ids = np.asarray(self.tokens[start : start + self.length], dtype=np.int64)
        if self.rule is None:
            return {"tokens": ids}
        parts = []
        for offset in range(0, self.length, self.block):
            generator = np.random.default_rng([self.seed, (start + offset) // self.block])
            part = ids[offset : offset + self.block]
            parts.append(hide(part, choose(part, self.rule, generator), self.rule, None))
        inputs, labels = (np.concatenate(both) for both in zip(*parts))
        return {"input_ids": inputs, "labels": labels}


class MaskedText(LengthsData):
    """Base of masked text: a subclass tells where the documents of each split are.

    Args:
        train_length: tokens of a training row.
        eval_lengths: tokens of the rows of the test, each a multiple of the shortest; the test text
            is cut into rows of each length in turn.
        mask_rate: share of tokens to predict, above 0 and below 1.
        train_mask_rate: that of training rows, where another share teaches faster; None = the same.
        whole_word: hide whole words.
        max_tokens: most training tokens, one pass over them is an epoch; None takes all.
        test_tokens: most tokens of the test, and of the validation.
        batch_size: rows of a training batch.
        num_workers: loader processes.
        seed: of the order of rows and of training masks; test masks do not depend on it.
    """

    def __init__(
        self,
        *,
        train_length: int = 64,
        eval_lengths: Sequence[int] = (64, 128, 256, 512, 1024),
        mask_rate: float = 0.15,
        train_mask_rate: float | None = None,
        whole_word: bool = False,
        max_tokens: int | None = None,
        test_tokens: int = 65_536,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        self.rates = mask_rate, mask_rate if train_mask_rate is None else train_mask_rate
        for name, rate in zip(("mask_rate", "train_mask_rate"), self.rates):
            if not 0 < rate < 1:
                raise ValueError(f"data.{name}={rate}: must lie between 0 and 1")
        self.whole_word = whole_word
        self.max_tokens, self.test_tokens = max_tokens, test_tokens
        self.rule: MaskRule | None = None
        self.train_rule: MaskRule | None = None
        self.test_text: NDArray[np.int32] | None = None
        super().__init__(
            train_length=train_length,
            eval_lengths=check_lengths(eval_lengths),
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )

    @abstractmethod
    def documents(self, split: Split) -> Documents:
        """Texts of a split."""

    @abstractmethod
    def sample(self) -> Documents:
        """Training texts from which a vocabulary is learned."""

    def texts(self) -> Iterable[str]:
        """A sample of the training texts, for a tokenizer."""
        return self.sample()

    @property
    def tokenizer(self) -> Any:
        """The tokenizer; setting it encodes the texts (or finds them in the cache)."""
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        if tokenizer is not None:
            self._encode(tokenizer)

    def _encode(self, tokenizer: Any) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError("task=mlm: the model's tokenizer has no mask token")
        self.rule = MaskRule(
            rate=self.rates[0],
            mask_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            first=_first_ordinary(tokenizer),
            edges=WordEdges.of(tokenizer) if self.whole_word else None,
        )
        self.train_rule = replace(self.rule, rate=self.rates[1])
        train = pack(self.documents("train"), tokenizer, max_tokens=self.max_tokens)
        valid = pack(self.documents("valid"), tokenizer, max_tokens=self.test_tokens)
        self.test_text = pack(self.documents("test"), tokenizer, max_tokens=self.test_tokens)
        n = self.train_length
        self.train_set = Chunks(train, n, len(train) // n)
        self.valid_set = Chunks(valid, n, len(valid) // n, rule=self.rule, block=n)
        longest = max(self.eval_lengths)
        for name, tokens, least in (("train", train, n), ("test", self.test_text, longest)):
            if len(tokens) < least:
                raise ValueError(
                    f"data: the {name} text has {len(tokens)} tokens, fewer than one row of "
                    f"{least}; give more text, or shorter data.train_length and data.eval_lengths"
                )
        self.test_set = self.length_set(longest)

    def length_set(self, length: int) -> Chunks:
        """The test text in rows of a length, without the tokens beyond the last longest row."""
        assert self.test_text is not None
        longest = max(self.eval_lengths)
        rows = len(self.test_text) // longest * (longest // length)
        block = min(self.eval_lengths)
        return Chunks(self.test_text, length, rows, rule=self.rule, block=block)

    def calibration(self, length: int, rows: int) -> dict[str, Tensor]:
        """Inputs (rows, length) from the training text, for scalings fitted to a length."""
        assert isinstance(self.train_set, Chunks)
        tokens = self.train_set.tokens
        whole = Chunks(tokens, length, len(tokens) // length, rule=self.rule, block=length, seed=1)
        if not len(whole):
            raise ValueError(
                f"data: the training text has {len(tokens)} tokens, fewer than one row of {length}"
            )
        part = self.collate([whole[row] for row in range(min(rows, len(whole)))])
        return {"input_ids": part["input_ids"]}

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """``input_ids`` and ``labels`` (B, n); rows without masks are masked anew each epoch."""
        rule = self.train_rule
        assert rule is not None
        pairs = []
        for row in rows:
            if "labels" in row:
                pairs.append((row["input_ids"], row["labels"]))
            else:
                generator = np.random.default_rng([self.seed, row["epoch"], row["row_id"]])
                chosen = choose(row["tokens"], rule, generator)
                pairs.append(hide(row["tokens"], chosen, rule, generator))
        inputs, labels = (torch.from_numpy(np.stack(both)) for both in zip(*pairs))
        return {"input_ids": inputs, "labels": labels}


def _first_ordinary(tokenizer: Any) -> int:
    """One past the special ids where they come first, as in our own vocabularies; else 0."""
    special = sorted(tokenizer.all_special_ids)
    return len(special) if special == list(range(len(special))) else 0
