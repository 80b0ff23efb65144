"""Pairs of texts with labels: what the matching task trains on, wherever they come from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from kexue_pl.data.base import DataModule
from kexue_pl.data.components import leak, length_correlation, repeats
from kexue_pl.data.encoded import EncodedPairs, Ragged, encode_joined, encode_texts, pad
from kexue_pl.data.label_aware import label_aware_batches
from kexue_pl.reading import DataError, Table

__all__ = ["PairData"]

_LOG = logging.getLogger(__name__)


class PairData(DataModule):
    """Base of the data of task=matching; a subclass fills ``tables`` in ``setup``.

    Args:
        batch_size: pairs of one training batch over all ranks.
        eval_batch_size: pairs of one evaluation batch on each rank; None for ``batch_size``.
        num_workers: loader processes.
        seed: of the order and the split.
        bucket: pairs of like length share a batch; with an in-batch loss this changes what is
            learned.
        stratify: no batch has one label value only, if that can be avoided.
        drop_leaked: leave out training rows whose pair is also in validation or test.
        strict: refuse texts that are too long for the model, instead of cutting and counting them.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        eval_batch_size: int | None = 256,
        num_workers: int = 0,
        seed: int = 0,
        bucket: bool = False,
        stratify: bool = True,
        drop_leaked: bool = True,
        strict: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.bucket, self.stratify, self.drop_leaked = bucket, stratify, drop_leaked
        self.strict = strict
        self.tables: dict[str, Table] = {}
        self._pad = 0

    def texts(self) -> Iterable[str]:
        """Both texts of all training pairs."""
        columns = self.tables["train"].columns
        return (text for name in ("text1", "text2") for text in columns[name])

    def inspect(self) -> None:
        """Check the tables, report what they share, and drop leaked training rows.

        Raises:
            DataError: no training rows, or labels are missing.
        """
        train = self.tables["train"]
        for name, table in self.tables.items():
            if "label" not in table.columns and (
                name != "train" or "negative" not in table.columns
            ):
                do = "add a column, or name the one there is with data.label_column"
                raise DataError(table.places[0][0], f"data.{name} has no labels", do=do)
        if len(set(train.columns.get("label", "ab"))) == 1:
            value = train.columns["label"][0]
            self.counts["label_values"] = 1
            _LOG.warning("data.train has one label value only (%s): rankings learn nothing", value)
        self._report_repeats(train)
        leaked: set[int] = set()
        for name in ("valid", "test"):
            if name in self.tables:
                leaked |= set(self._report(name))
        if self.drop_leaked and leaked:
            kept = [row for row in range(len(train)) if row not in leaked]
            if kept:
                self.counts["train_rows_also_evaluated"] = len(leaked)
                _LOG.warning(
                    "%d training rows that are also evaluated were left out "
                    "(data.drop_leaked=false keeps them)",
                    len(leaked),
                )
                self.tables["train"] = train.take(kept)

    def _report_repeats(self, train: Table) -> None:
        """Count rows that say again, or deny, what another row says; they are kept."""
        found = repeats(_pairs(train), train.columns.get("label"))
        for name, number, what in (
            ("train_rows_repeated", found.same, "occur more than once"),
            ("train_rows_contradicting", found.other, "occur with different labels"),
        ):
            if number:
                self.counts[name] = number
                _LOG.warning("data.train: the pairs of %d rows %s", number, what)

    def _report(self, name: str) -> tuple[int, ...]:
        train, other = _pairs(self.tables["train"]), _pairs(self.tables[name])
        found = leak(train, other)
        _LOG.info(
            "data.%s: %d rows, %d pairs also in train, %d with both texts known, %d with one",
            name, found.rows, found.pairs, found.both, found.any,
        )  # fmt: skip
        if "label" not in self.tables["train"].columns:
            return found.train_rows
        cue = length_correlation(train, self.tables["train"].columns["label"])
        there = length_correlation(other, self.tables[name].columns["label"])
        if abs(cue - there) > 0.1:
            _LOG.warning(
                "the correlation of length and label is %.2f in train and %.2f in %s: a model may "
                "learn the length; data.bucket=true takes that cue away",
                cue, there, name,
            )  # fmt: skip
        return found.train_rows

    def use(self, encoder: Any, *, joined: bool) -> None:
        """Tokenize everything once for an encoder; called by the task before loaders are made.

        Args:
            encoder: tells whether special tokens are wanted and how long inputs may be.
            joined: both texts in one sequence instead of two.
        """
        self.set_padding()
        sets = {
            name: self.encode(table, encoder, joined=joined, name=name)
            for name, table in self.tables.items()
        }
        self.train_set, self.valid_set = sets.get("train"), sets.get("valid")  # type: ignore[assignment]
        self.test_set = sets.get("test")  # type: ignore[assignment]

    def set_padding(self) -> None:
        """Pad with the padding token of the tokenizer."""
        assert self.tokenizer is not None
        self._pad = self.tokenizer.pad_token_id or 0

    def encode(
        self, table: Table, encoder: Any, *, joined: bool, name: str = "data"
    ) -> EncodedPairs:
        """Token ids of all rows of a table.

        Raises:
            DataError: a text is too long and ``strict`` is set.
        """
        parts, cut = self.parts(table, encoder, joined=joined)
        self._report_cut(cut, table, encoder.max_length, name)
        labels = table.columns.get("label")
        return EncodedPairs(
            parts, None if labels is None else torch.tensor(labels).double().numpy()
        )

    def parts(
        self, table: Table, encoder: Any, *, joined: bool
    ) -> tuple[dict[str, Ragged], list[int]]:
        """Token ids of the texts of a table by part, and the rows of the texts that were cut."""
        left, right = table.columns["text1"], table.columns["text2"]
        most = encoder.max_length
        cut: list[int] = []
        if joined:
            ids, types, cut = encode_joined(self.tokenizer, left, right, max_length=most)
            parts = {"joined": ids, "types": types}
        else:
            parts = {}
            texts_of = {"left": left, "right": right, "negative": table.columns.get("negative")}
            for side, texts in texts_of.items():
                if texts is None:
                    continue
                parts[side], short = encode_texts(
                    self.tokenizer,
                    texts,
                    special_tokens=encoder.special_tokens,
                    max_length=most,
                )
                cut += short
        return parts, cut

    def _report_cut(self, cut: list[int], table: Table, most: int | None, name: str) -> None:
        """Count the texts that were cut, or refuse them."""
        if not cut:
            return
        if self.strict:
            self.refuse_cut(cut, table, most, name)
        where, line = table.places[min(cut)]
        self.counts[f"{name}_texts_cut"] = len(cut)
        _LOG.warning(
            "data.%s: %d texts were cut to %s tokens, the first at %s:%d",
            name, len(cut), most, where, line,
        )  # fmt: skip

    def refuse_cut(self, cut: list[int], table: Table, most: int | None, name: str) -> None:
        """Raise a DataError for the first text that was cut."""
        where, line = table.places[min(cut)]
        what = f"a text of more than {most} tokens ({len(cut)} such texts in data.{name})"
        do = "shorten it, raise model.max_length, or set data.strict=false, which cuts and counts"
        raise DataError(where, what, line=line, do=do)

    def collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Padded ids and masks; ``label`` (B,) float32 and ``row_id`` (B,)."""
        batch: dict[str, Tensor] = {}
        if "joined" in rows[0]:
            ids, mask = pad([row["joined"] for row in rows], self._pad)
            types, _ = pad([row["types"] for row in rows], 0)
            batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        else:
            for side in [name for name in ("left", "right", "negative") if name in rows[0]]:
                ids, mask = pad([row[side] for row in rows], self._pad)
                batch |= {f"{side}_ids": ids, f"{side}_mask": mask}
        if "label" in rows[0]:
            batch["label"] = torch.tensor([row["label"] for row in rows])
        if "row_id" in rows[0]:
            batch["row_id"] = torch.tensor([row["row_id"] for row in rows])
        return batch

    def train_batches(self, epoch: int) -> Sequence[list[int]]:
        """Shuffled batches, by length and label as asked for."""
        rows = self.rows()
        encoded = self.train_set
        labels = self.tables["train"].columns.get("label") if self.stratify else None
        # Before tokenization only the number of batches is asked for, which lengths do not change.
        known = isinstance(encoded, EncodedPairs) and self.bucket
        lengths = encoded.lengths() if known else None  # type: ignore[union-attr]
        return label_aware_batches(
            rows, self.batch_size, seed=self.seed, epoch=epoch, labels=labels, lengths=lengths
        )

    def rows(self) -> int:
        """Number of training pairs."""
        return len(self.tables["train"])


def _pairs(table: Table) -> list[tuple[str, str]]:
    return list(zip(table.columns["text1"], table.columns["text2"]))
