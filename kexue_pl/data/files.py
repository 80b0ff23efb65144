"""Pairs from files, folders or data sets of the hub."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from kexue_pl.data.components import split_components
from kexue_pl.data.pair_data import PairData
from kexue_pl.reading import DataError, Field, RowPolicy, Table, read_table

__all__ = ["Files", "pair_fields"]

_LOG = logging.getLogger(__name__)

_ALIASES = {
    "text1": ("sentence1", "sentence_A", "text_a", "sent1", "query", "question1", "anchor"),
    "text2": ("sentence2", "sentence_B", "text_b", "sent2", "title", "question2", "positive"),
    "negative": ("text3", "hard_neg", "hard_negative", "neg"),
    "label": ("score", "similarity", "gold_label", "gt", "is_duplicate"),
}
_KINDS = {"auto": "label", "integer": "integer", "number": "number"}


def pair_fields(
    *,
    text1_column: str | int | None = None,
    text2_column: str | int | None = None,
    label_column: str | int | None = None,
    negative_column: str | int | None = None,
    id_column: str | int | None = None,
    label: str = "auto",
    label_low: float | None = None,
    label_high: float | None = None,
    label_required: bool = True,
) -> dict[str, Field]:
    """The fields of a pair, as the readers want them; arguments as in :class:`Files`.

    Raises:
        ValueError: unknown ``label``.
    """
    if label not in _KINDS:
        raise ValueError(f"data.label={label!r}: expected one of {', '.join(_KINDS)}")
    fields = {
        "text1": Field(column=text1_column, aliases=_ALIASES["text1"]),
        "text2": Field(column=text2_column, aliases=_ALIASES["text2"]),
        "label": Field(
            _KINDS[label],  # type: ignore[arg-type]
            column=label_column,
            aliases=_ALIASES["label"],
            required=label_required,
            low=label_low,
            high=label_high,
        ),
        "negative": Field(
            column=negative_column, aliases=_ALIASES["negative"], required=False, by_name=True
        ),
    }
    if id_column is not None:
        fields["id"] = Field("any", column=id_column, unique=True, by_name=True)
    return fields


class Files(PairData):
    """Pairs read strictly from TSV, CSV, JSON Lines or Parquet files, folders or the hub.

    Args:
        train: file, folder, ``hub:OWNER/NAME:SPLIT@REVISION``, or a list of these.
        valid: the same; None holds out ``valid_share`` of the training rows.
        test: the same; None tests on the validation rows.
        valid_share: part held out where ``valid`` is None, 0 to 1.
        split: ``components`` (no sentence on both sides) or ``random``.
        split_seed: of the held-out part; fixed, so that runs of different ``seed`` compare.
        text1_column: name or 0-based position; None finds the usual names, else the first column.
        text2_column: the same, else the second column.
        label_column: the same, else the third column.
        negative_column: name or position of a hard negative of the first text; None takes a column
            of that name if there is one. With such a column training rows need no label.
        id_column: name or position of ids, which must be unique in each source; None reads none.
        label: ``auto``, ``integer`` (classes, grades) or ``number`` (scores).
        label_low: smallest label allowed.
        label_high: largest label allowed.
        on_error: ``raise`` at the first bad row, or ``skip`` and count.
        max_bad: more skipped rows than this are an error.
        bad_rows: file that lists skipped rows.
        max_line_bytes: longest line accepted.
        batch_size: see :class:`PairData`, like all that follow.
        eval_batch_size: pairs of one evaluation batch.
        num_workers: loader processes.
        seed: of the order of the pairs.
        bucket: pairs of like length share a batch.
        stratify: several label values in each batch.
        drop_leaked: leave out training rows that are also evaluated.
        strict: refuse too long texts instead of cutting and counting them.
    """

    def __init__(
        self,
        *,
        train: str | Sequence[str],
        valid: str | Sequence[str] | None = None,
        test: str | Sequence[str] | None = None,
        valid_share: float = 0.1,
        split: str = "components",
        split_seed: int = 0,
        text1_column: str | int | None = None,
        text2_column: str | int | None = None,
        label_column: str | int | None = None,
        negative_column: str | int | None = None,
        id_column: str | int | None = None,
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
            bucket=bucket,
            stratify=stratify,
            drop_leaked=drop_leaked,
            strict=strict,
        )
        if split not in ("components", "random"):
            raise ValueError(f"data.split={split!r}: expected components or random")
        if not 0 < valid_share < 1:
            raise ValueError(f"data.valid_share={valid_share}: expected a number between 0 and 1")
        self.sources = {"train": train, "valid": valid, "test": test}
        self.valid_share, self.split, self.split_seed = valid_share, split, split_seed
        self.fields = pair_fields(
            text1_column=text1_column,
            text2_column=text2_column,
            label_column=label_column,
            negative_column=negative_column,
            id_column=id_column,
            label=label,
            label_low=label_low,
            label_high=label_high,
            label_required=False,
        )
        self.policy = RowPolicy(
            on_error, max_bad, None if bad_rows is None else Path(bad_rows), max_line_bytes
        )

    def setup(self, stage: str | None = None) -> None:
        """Read and check all files, hold out validation rows if need be, report leaks.

        Raises:
            DataError: ``FILE:LINE: what; saw ...; do: ...``.
        """
        if self.tables:
            return
        tables = {
            name: self.read(name) for name, source in self.sources.items() if source is not None
        }
        self.counts["bad_rows"] = len(self.policy.bad)
        if "valid" not in tables:
            tables["train"], tables["valid"] = self._hold_out(tables["train"])
        self.tables = tables
        self.inspect()

    def read(self, name: str) -> Table:
        """All rows of one source."""
        source = self.sources[name]
        assert source is not None
        return read_table(source, self.fields, policy=self.policy)

    def _hold_out(self, table: Table) -> tuple[Table, Table]:
        pairs = list(zip(table.columns["text1"], table.columns["text2"]))
        if self.split == "random":
            pairs = [(f"{row}a", f"{row}b") for row in range(len(table))]
        train, held = split_components(pairs, self.valid_share, self.split_seed)
        if not train or not held:
            do = "give data.valid, or data.split=random"
            what = f"{len(table)} rows cannot be split by data.valid_share={self.valid_share}"
            raise DataError(table.places[0][0], what, do=do)
        _LOG.info("%d of %d rows are held out for validation", len(held), len(table))
        return table.take(train), table.take(held)
