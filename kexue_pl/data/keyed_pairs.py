"""Queries and the keys they ask for: entity linking, titles, catalogue items."""

from __future__ import annotations

import logging
from pathlib import Path

from kexue_pl.data.base import Row
from kexue_pl.data.questions import QuestionData, existing
from kexue_pl.reading import Field, RowPolicy, iter_lines, read_table
from kexue_pl.reading.errors import shown

_LOG = logging.getLogger(__name__)


class KeyedPairs(QuestionData):
    """Two columns, a query and its key, and any list of keys to retrieve from.

    Keys are flat, one segment, so retrieval is plain constrained generation: no predicates, no
    rule.

    Args:
        train, valid: TSV (query, key), JSONL or Parquet files.
        test: None tests on ``valid``.
        keys: one key a line; None takes the keys of all files.
        query, key: columns of files with column names; else the first two.
        on_error, max_bad, bad_rows: bad rows, as in ``Files``.
        batch_size, eval_batch_size, num_workers, seed, max_question, max_length, swap, noise,
        index, strict: as in ``QuestionData``.
    """

    segments = ("key",)

    def __init__(
        self,
        *,
        train: str,
        valid: str,
        test: str | None = None,
        keys: str | None = None,
        query: str = "query",
        key: str = "key",
        batch_size: int = 32,
        eval_batch_size: int | None = 64,
        num_workers: int = 0,
        seed: int = 0,
        max_question: int = 72,
        max_length: int = 128,
        swap: float = 0.0,
        noise: float = 0.0,
        index: str | None = None,
        strict: bool = False,
        on_error: str = "raise",
        max_bad: int = 100,
        bad_rows: str | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            max_question=max_question,
            max_length=max_length,
            swap=swap,
            noise=noise,
            index=index,
            strict=strict,
        )
        self.files = {"train": train, "valid": valid, "test": test}
        self.keys = keys
        self.fields = {
            query: Field(option="data.query"), key: Field(option="data.key")
        }  # fmt: skip
        self.policy = RowPolicy(on_error, max_bad, None if bad_rows is None else Path(bad_rows))

    def setup(self, stage: str) -> None:
        """Read the files."""
        if self.base:
            return
        sets = {
            name: self._rows(existing(path, f"data.{name}"), train=name == "train")
            for name, path in self.files.items()
            if path is not None
        }
        self.train_set, self.valid_set = sets["train"], sets["valid"]
        self.test_set = sets.get("test", sets["valid"])
        found = {row["key"][0]: None for rows in sets.values() for row in rows}
        if self.keys is not None:
            path = existing(self.keys, "data.keys")
            found = {line.text: None for line in iter_lines(path, self.policy)}
            self.policy.write()
            self._unreachable(found)
        self.counts["bad_rows"] = len(self.policy.bad)
        self.base = [((text,), text) for text in found]

    def _rows(self, path: Path, *, train: bool) -> list[Row]:
        table = read_table(path, self.fields, policy=self.policy)
        queries, keys = table.columns.values()
        return [
            {"question": query, "key": (key,), "value": key, "train": train}
            for query, key in zip(queries, keys, strict=True)
        ]

    def _unreachable(self, keys: dict[str, None]) -> None:
        """Count evaluated queries whose key is not among the keys: they have no right answer."""
        for name in ("valid", "test"):
            rows = getattr(self, f"{name}_set")
            lost = [row["value"] for row in rows if row["value"] not in keys]
            if lost:
                self.counts[f"{name}_keys_unknown"] = len(lost)
                _LOG.warning(
                    "data.%s: the keys of %d of %d queries are not in data.keys, the first is %s: "
                    "no answer to them can be right",
                    name, len(lost), len(rows), shown(lost[0]),
                )  # fmt: skip
