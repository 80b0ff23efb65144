"""Queries and the keys they ask for: entity linking, titles, catalogue items."""

from __future__ import annotations

from pathlib import Path

from kexue_pl.data.base import Row
from kexue_pl.data.questions import QuestionData, existing
from kexue_pl.retrieval.triples import read_blocks


class KeyedPairs(QuestionData):
    """Two columns, a query and its key, and any list of keys to retrieve from.

    Keys are flat, one segment, so retrieval is plain constrained generation: no predicates, no
    rule.

    Args:
        train, valid: TSV (query, key), JSONL or Parquet files.
        test: None tests on ``valid``.
        keys: one key a line; None takes the keys of all files.
        query, key: columns of JSONL and Parquet files.
        batch_size, eval_batch_size, num_workers, seed, max_question, max_length, swap, noise,
        index: as in ``QuestionData``.
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
        )
        self.files = {"train": train, "valid": valid, "test": test}
        self.keys, self.columns = keys, (query, key)

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
            text = existing(self.keys, "data.keys").read_text(encoding="utf-8")
            found = {line: None for line in text.splitlines() if line.strip()}
        self.base = [((text,), text) for text in found]

    def _rows(self, path: Path, *, train: bool) -> list[Row]:
        rows: list[Row] = []
        for block in read_blocks(path, self.columns):
            for query, key in zip(*(column.to_pylist() for column in block), strict=True):
                rows.append({"question": query, "key": (key,), "value": key, "train": train})
        return rows
