"""metrics.csv: new columns, a cut last line, rows that a resumed run writes anew."""

from __future__ import annotations

import csv
from pathlib import Path

from kexue_pl.run.loggers import MetricsCSV


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((path / "metrics.csv").read_text().splitlines()))


def test_a_new_metric_gives_a_new_column(tmp_path: Path) -> None:
    log = MetricsCSV(str(tmp_path))
    log.log_metrics({"a": 1.0}, step=0)
    log.log_metrics({"a": 2.0, "b": 3.0}, step=1)
    assert rows(tmp_path) == [
        {"step": "0", "a": "1.0", "b": ""},
        {"step": "1", "a": "2.0", "b": "3.0"},
    ]


def test_another_process_goes_on_below(tmp_path: Path) -> None:
    MetricsCSV(str(tmp_path)).log_metrics({"a": 1.0}, step=0)
    MetricsCSV(str(tmp_path)).log_metrics({"a": 2.0}, step=1)
    assert [row["a"] for row in rows(tmp_path)] == ["1.0", "2.0"]


def test_rows_after_the_checkpoint_are_written_anew(tmp_path: Path) -> None:
    log = MetricsCSV(str(tmp_path))
    for step in range(5):
        log.log_metrics({"a": float(step)}, step=step)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("7")  # cut off by a kill
    again = MetricsCSV(str(tmp_path))
    again.take_over(3)
    again.log_metrics({"a": 30.0}, step=3)
    assert [(row["step"], row["a"]) for row in rows(tmp_path)] == [
        ("0", "0.0"),
        ("1", "1.0"),
        ("2", "2.0"),
        ("3", "30.0"),
    ]
