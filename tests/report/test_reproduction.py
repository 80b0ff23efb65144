"""The page of an article: tuning by validation, figures over seeds, verdicts, errors that name the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexue_pl.report.reproduction import Reproduction, Row, _family, rows_of_csv, write_index

RECIPE: dict[str, Any] = {
    "title": "多任务",
    "about": "About.",
    "published": "None.",
    "setup": "Two rules.",
    "remarks": "Why it is so.",
    "metrics": ["test/a"],
    "tune": {"key": "optimizer.lr", "by": "val/a"},
    "findings": [
        {
            "claim": "A beats B",
            "left": {"run": "A", "metric": "test/a"},
            "right": {"run": "B", "metric": "test/a"},
            "expect": "greater",
        }
    ],
}


def rows() -> list[Row]:
    out = []
    for seed in range(3):
        for name, lr, val, test in [
            ("A", "1", 0.5, 0.9),
            ("A", "2", 0.6, 0.8),
            ("B", "1", 0.5, 0.1),
        ]:
            metrics = {"val/a": val + 0.001 * seed, "test/a": test + 0.01 * seed * (name == "A")}
            out.append(Row(f"{name}, optimizer.lr={lr}", seed, metrics))
    return out


def test_page_holds_table_verdict_and_figure(tmp_path: Path) -> None:
    page = Reproduction("8870", RECIPE, "small", ["python train.py -m x"], rows(), tmp_path)
    text = page.write(tmp_path).read_text(encoding="utf-8")
    # Chosen by validation (lr=2), not by the better test value of lr=1.
    assert "| A | 3 | 2 | 0.8100 ± 0.0058 |" in text
    assert "| A beats B | +0.7100 ± 0.0058 [+0.6852, +0.7348] | 3 | holds |" in text
    assert text.index("A beats B") < text.index("Why it is so.") < text.index("Written by")
    assert (tmp_path / "figures" / "8870.png").stat().st_size > 5000
    index = write_index(tmp_path, {"8870": RECIPE, "8896": RECIPE}).read_text(encoding="utf-8")
    assert "| [8870](8870.md) | 多任务 | holds |" in index
    assert "| 8896 | 多任务 | not run |" in index


def test_a_family_of_metrics_becomes_a_line_a_setting(tmp_path: Path) -> None:
    found = [
        Row(name, seed, {"test/a": 1.0, "test/a@64": seed + shift, "test/a@1024": shift})
        for name, shift in (("A", 1.0), ("B", 0.0))
        for seed in range(2)
    ]
    recipe = {**RECIPE, "lines": {"by_length": {"metric": "test/a@", "x": "tokens", "y": "a"}}}
    del recipe["tune"]
    page = Reproduction("8823", recipe, "small", [], found, tmp_path)
    assert _family(page.rows[:2], "test/a@") == {64: [1.0, 2.0], 1024: [1.0, 1.0]}
    assert "figures/8823_by_length.png" in page.write(tmp_path).read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "8823_by_length.png").stat().st_size > 5000


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    page = Reproduction(
        "8870", RECIPE, "small", [], [r for r in rows() if r.label[0] == "A"], tmp_path
    )
    with pytest.raises(KeyError, match=r"'B'; runs: .*'A'"):
        page.write(tmp_path)


def test_rows_of_a_scripts_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("rule,seed,loss\nx,1,0.5\nx,2,0.25\n")
    found = rows_of_csv(tmp_path / "t.csv", label="rule", seed="seed")
    assert [(r.label, r.seed, r.metrics["loss"]) for r in found] == [("x", 1, 0.5), ("x", 2, 0.25)]
