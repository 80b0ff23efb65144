"""Scores for a file of pairs: every row in is a row out, or is reported as bad."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kexue_pl.data.files import pair_fields
from kexue_pl.data.pair_data import PairData
from kexue_pl.metrics import platt_probabilities
from kexue_pl.predict.restore import Restored
from kexue_pl.reading import RowPolicy, Table, read_table
from kexue_pl.reading.errors import shown

__all__ = ["PairPrediction", "score_file", "score_pairs", "write_rows", "write_scores"]


@dataclass(frozen=True)
class PairPrediction:
    """Scores of pairs in the order of the rows.

    Attributes:
        table: the rows that were read.
        scores: (N,) float32.
        threshold: of the checkpoint, nan where it has none.
        bad: number of rows that could not be read.
        calibration: (2,) slope and offset of the log odds of a match; NaN where there are none.
    """

    table: Table
    scores: Tensor
    threshold: float
    bad: int
    calibration: Tensor = field(default_factory=lambda: torch.full((2,), torch.nan))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Row by row: texts, label, score, and decision and probability where there are any."""
        likely = platt_probabilities(self.scores, self.calibration)
        decided = self.scores > torch.tensor(self.threshold, dtype=torch.float32)
        for number, row in enumerate(self.table):
            kept = [name for name in ("text1", "text2", "label") if name in row]
            out: dict[str, Any] = {name: row[name] for name in kept}
            out["score"] = float(self.scores[number])
            if self.threshold == self.threshold:
                out["match"] = int(decided[number])
            if likely[number] == likely[number]:
                out["probability"] = round(float(likely[number]), 6)
            yield out


@torch.inference_mode()
def score_pairs(restored: Restored, table: Table, *, batch_size: int = 256) -> Tensor:
    """(N,) float32 scores; rows of like length go through the model together.

    Args:
        restored: a task of matching.
        table: columns ``text1`` and ``text2``.
        batch_size: pairs at once.
    """
    task = restored.task
    data = PairData(batch_size=batch_size)
    data.tokenizer = restored.tokenizer
    texts = {name: table.columns[name] for name in ("text1", "text2")}
    encoded = data.encode(Table(texts, table.places), task.model.encoder, joined=task.model.joined)
    data.set_padding()
    order = encoded.lengths().argsort(kind="stable")
    scores = torch.empty(len(table))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = data.collate([encoded[int(row)] for row in rows])
        moved = {name: value.to(task.device) for name, value in batch.items()}
        scores[torch.from_numpy(rows)] = task.scores(moved).cpu()
    return scores


def score_file(
    restored: Restored,
    source: str,
    *,
    text1_column: str | int | None = None,
    text2_column: str | int | None = None,
    policy: RowPolicy | None = None,
    batch_size: int = 256,
) -> PairPrediction:
    """Score the pairs of a file, a folder or a hub data set; labels are carried along if present.

    Args:
        restored: a task of matching.
        source: as for :class:`kexue_pl.data.files.Files`.
        text1_column: name or position; None finds it.
        text2_column: the same.
        policy: what happens to bad rows.
        batch_size: pairs at once.
    """
    policy = policy or RowPolicy()
    fields = pair_fields(text1_column=text1_column, text2_column=text2_column, label_required=False)
    table = read_table(source, fields, policy=policy)
    scores = score_pairs(restored, table, batch_size=batch_size)
    task = restored.task
    return PairPrediction(
        table, scores, float(task.threshold), len(policy.bad), task.calibration.cpu()
    )


def write_scores(found: PairPrediction, path: Path) -> None:
    """Write the rows as TSV, CSV, JSON Lines or Parquet, as the ending of ``path`` says."""
    write_rows(list(found.rows()), path)


def write_rows(rows: list[dict[str, Any]], path: Path) -> None:
    """Write rows of the same keys as TSV, CSV, JSON Lines or Parquet.

    Raises:
        ValueError: ``path`` has another ending, or is a TSV and a text has a tab or a line end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(lines, encoding="utf-8")
    elif path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        lines = "".join(_tsv_line(cells, path) for cells in ([*rows[0]], *map(_cells, rows)))
        path.write_text(lines, encoding="utf-8", newline="")
    else:
        raise ValueError(f"output={path}: expected a name ending in .tsv, .csv, .jsonl, .parquet")


def _cells(row: dict[str, Any]) -> list[Any]:
    return list(row.values())


def _tsv_line(cells: list[Any], path: Path) -> str:
    """One line as the reader of TSV takes it: no quoting, so no tab and no line end in a field."""
    texts = [str(cell) for cell in cells]
    for text in texts:
        if any(mark in text for mark in "\t\n\r"):
            raise ValueError(
                f"output={path}: the text {shown(text)} has a tab or a line end, which TSV cannot "
                "hold; name the output .jsonl, .csv or .parquet"
            )
    return "\t".join(texts) + "\n"
