"""Pairs from files larger than memory."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kexue_pl.data.components import pair_key
from kexue_pl.data.encoded import Ragged
from kexue_pl.data.files import Files
from kexue_pl.data.packing import tokenizer_key
from kexue_pl.data.pair_store import PairStore, stored
from kexue_pl.data.shuffle import ShuffledBatches
from kexue_pl.reading import DataError, RowPolicy, Table, iter_table
from kexue_pl.reading.table import Row

__all__ = ["Stream"]

_LOG = logging.getLogger(__name__)

SAMPLE = 200_000
"""Training rows from which a vocabulary is learned."""


class Stream(Files):
    """Training pairs that are never in memory: read, checked and tokenized once, a few at a time.

    The tokens lie in files of the cache folder and are read through memory maps, so any row is at
    hand: the order is an exact shuffle, the same on one rank and on many, and a resumed run goes on
    in the middle of an epoch. The order takes no memory, see :class:`ShuffledBatches`. Validation
    and test rows are held in memory, as are their texts while the training rows are compared with
    them. Batches are drawn at random, not by label or length.

    Args:
        train: as in :class:`Files`, like all that follow; a file of one JSON array is read whole.
        valid: validation rows; required, since whole sentences cannot be held out of a stream.
        test: test rows; None tests on the validation rows.
        text1_column: see :class:`Files`.
        text2_column: see :class:`Files`.
        label_column: see :class:`Files`.
        negative_column: see :class:`Files`.
        label: see :class:`Files`.
        label_low: see :class:`Files`.
        label_high: see :class:`Files`.
        on_error: see :class:`Files`.
        max_bad: see :class:`Files`.
        bad_rows: see :class:`Files`.
        max_line_bytes: see :class:`Files`.
        batch_size: see :class:`Files`.
        eval_batch_size: see :class:`Files`.
        num_workers: see :class:`Files`.
        seed: see :class:`Files`.
        drop_leaked: see :class:`Files`.
        strict: see :class:`Files`.
    """

    def __init__(
        self,
        *,
        train: str | Sequence[str],
        valid: str | Sequence[str],
        test: str | Sequence[str] | None = None,
        text1_column: str | int | None = None,
        text2_column: str | int | None = None,
        label_column: str | int | None = None,
        negative_column: str | int | None = None,
        label: str = "auto",
        label_low: float | None = None,
        label_high: float | None = None,
        on_error: str = "raise",
        max_bad: int = 100,
        bad_rows: str | None = None,
        max_line_bytes: int = 16 * 2**20,
        batch_size: int = 64,
        eval_batch_size: int | None = 256,
        num_workers: int = 0,
        seed: int = 0,
        drop_leaked: bool = True,
        strict: bool = False,
    ) -> None:
        super().__init__(
            train=train,
            valid=valid,
            test=test,
            text1_column=text1_column,
            text2_column=text2_column,
            label_column=label_column,
            negative_column=negative_column,
            label=label,
            label_low=label_low,
            label_high=label_high,
            on_error=on_error,
            max_bad=max_bad,
            bad_rows=bad_rows,
            max_line_bytes=max_line_bytes,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            stratify=False,
            drop_leaked=drop_leaked,
            strict=strict,
        )
        self.cache_dir: Path | None = None
        self._held: set[tuple[str, str]] = set()

    def setup(self, stage: str | None = None) -> None:
        """Read and check the validation and test rows.

        Raises:
            DataError: ``FILE:LINE: what; saw ...; do: ...``.
        """
        if self.tables:
            return
        names = [name for name in ("valid", "test") if self.sources[name] is not None]
        for name in names:
            table = self.read(name)
            if "label" not in table.columns:
                do = "add a column, or name the one there is with data.label_column"
                raise DataError(table.places[0][0], f"data.{name} has no labels", do=do)
            self.tables[name] = table
            texts = zip(table.columns["text1"], table.columns["text2"])
            self._held |= {pair_key(*pair) for pair in texts}

    def texts(self) -> Iterable[str]:
        """Both texts of the first training pairs."""
        for row in islice(self._rows({}), SAMPLE):
            yield row.values["text1"]
            yield row.values["text2"]

    def rows(self) -> int:
        """Number of training pairs; known when they are tokenized."""
        if not isinstance(self.train_set, PairStore):
            raise ValueError("data=stream: the training rows are counted when a task uses them")
        return len(self.train_set)

    def train_batches(self, epoch: int) -> Sequence[list[int]]:
        """Exactly shuffled batches, computed when they are asked for."""
        return ShuffledBatches(self.rows(), self.batch_size, seed=self.seed, epoch=epoch)

    def use(self, encoder: Any, *, joined: bool) -> None:
        """Tokenize all rows for an encoder, those of training into the cache, once."""
        self.set_padding()
        sets = {
            name: self.encode(table, encoder, joined=joined, name=name)
            for name, table in self.tables.items()
        }
        self.valid_set, self.test_set = sets["valid"], sets.get("test")  # type: ignore[assignment]
        counts: dict[str, int] = {}
        cut: list[int] = []

        def encode(rows: list[Row]) -> dict[str, Ragged]:
            names = [n for n in rows[0].values if any(row.values[n] is not None for row in rows)]
            columns = {name: [row.values[name] for row in rows] for name in names}
            table = Table(columns, [(row.source, row.line) for row in rows])
            parts, short = self.parts(table, encoder, joined=joined)
            if short and self.strict:
                self.refuse_cut(short, table, encoder.max_length, "train")
            cut.append(len(short))
            return parts

        train = stored(
            self.cache_dir,
            self._key(encoder, joined),
            lambda: self._rows(counts),
            encode,
            lambda: {**counts, "train_texts_cut": sum(cut)},
            wide=len(self.tokenizer) > 2**16,
        )
        self.train_set = train  # type: ignore[assignment]
        self.counts |= {name: number for name, number in train.facts.items() if number}
        _LOG.info("data.train: %d rows on disk; %s", len(train), train.facts)

    def _rows(self, counts: dict[str, int]) -> Iterator[Row]:
        """Checked training rows that are not evaluated; fills in the counts at the end."""
        policy = RowPolicy(
            self.policy.on_error,
            self.policy.max_bad,
            self.policy.report,
            self.policy.max_line_bytes,
        )
        leaked = 0
        source = self.sources["train"]
        assert source is not None
        for row in iter_table(source, self.fields, policy=policy):
            values = row.values
            if values["label"] is None and values["negative"] is None:
                do = "add a column, or name the one there is with data.label_column"
                raise DataError(row.source, "data.train has no labels", line=row.line, do=do)
            if self.drop_leaked and pair_key(values["text1"], values["text2"]) in self._held:
                leaked += 1
                continue
            yield row
        counts |= {"bad_rows": len(policy.bad), "train_rows_also_evaluated": leaked}

    def _key(self, encoder: Any, joined: bool) -> str:
        source = self.sources["train"]
        assert source is not None
        sources = [source] if isinstance(source, str) else list(source)
        fields = {name: dataclasses.astuple(field) for name, field in self.fields.items()}
        held = hashlib.sha256(repr(sorted(self._held)).encode("utf-8", "surrogatepass"))
        policy = (self.policy.on_error, self.policy.max_bad, self.policy.max_line_bytes)
        return repr(
            (
                1, [_stamp(one) for one in sources], fields, policy, self.drop_leaked,
                held.hexdigest(), tokenizer_key(self.tokenizer), joined, encoder.special_tokens,
                encoder.max_length, self.strict,
            )
        )  # fmt: skip


def _stamp(source: str) -> list[tuple[str, int, int]]:
    """Name, size and time of a file, or of the files of a folder."""
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    return [(name, facts.st_size, facts.st_mtime_ns) for name, facts in found] or [(source, 0, 0)]
