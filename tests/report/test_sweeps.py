"""The table over runs: mean and spread over seeds, failed runs counted, nothing invented."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexue_pl.report.sweeps import collect, report, summarise


def run(
    folder: Path, name: str, settings: dict[str, Any], metrics: dict[str, float], status: str
) -> None:
    path = folder / name
    path.mkdir(parents=True)
    (path / "config_resolved.yaml").write_text(yaml.safe_dump(settings))
    (path / "summary.json").write_text(json.dumps({"status": status, "metrics": metrics}))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for number, (loss, seed, value) in enumerate(
        [("CoSENT", 0, 0.70), ("CoSENT", 1, 0.80), ("CosineMSE", 0, 0.60), ("CosineMSE", 1, 0.60)]
    ):
        settings = {"loss": {"_target_": f"kexue_pl.losses.x.{loss}"}, "seed": seed}
        run(tmp_path, f"{number}_x", settings, {"test/spearman": value, "val/x": 1.0}, "completed")
    settings = {"loss": {"_target_": "kexue_pl.losses.x.CosineMSE"}, "seed": 2}
    run(tmp_path, "4_x", settings, {}, "failed")
    run(tmp_path, "10_x", settings, {}, "running")
    return tmp_path


def test_mean_and_spread_over_seeds(sweep: Path) -> None:
    rows = {row["run"]: row for row in summarise(collect(sweep))}
    assert set(rows) == {"loss=CoSENT", "loss=CosineMSE"}
    mean, spread = rows["loss=CoSENT"]["test/spearman"]
    assert (mean, spread) == (pytest.approx(0.75), pytest.approx(0.1 / math.sqrt(2)))
    assert rows["loss=CosineMSE"]["n"] == 2
    assert rows["loss=CosineMSE"]["failed"] == 2


def test_jobs_are_in_order_and_unfinished_ones_interrupted(sweep: Path) -> None:
    runs = collect(sweep)
    assert [run["folder"].name for run in runs][-1] == "10_x"
    assert runs[-1]["status"] == "interrupted"


def test_files_hold_the_same_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(sweep)
    assert "loss=CoSENT" in capsys.readouterr().out
    assert "| loss=CoSENT | 2 | 0 | 0.7500 ± 0.0707 |" in (sweep / "report.md").read_text()
    rows = list(csv.DictReader((sweep / "report.csv").read_text().splitlines()))
    assert float(rows[0]["test/spearman std"]) == pytest.approx(0.0707, abs=1e-4)
    page = (sweep / "report.html").read_text()
    assert "0.7500 ± 0.0707" in page and "data:image/png;base64" in page
    assert "http" not in page.replace("http-equiv", "")


def test_names_are_escaped(tmp_path: Path) -> None:
    for number, tag in enumerate(["<script>alert(1)</script>", "b"]):
        run(tmp_path, f"{number}_x", {"model": {"path": tag}}, {"test/x": 1.0}, "completed")
    report(tmp_path)
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run directory"):
        report(tmp_path)


def test_lengths_are_in_order_of_their_numbers(tmp_path: Path) -> None:
    metrics = {f"test/accuracy@{n}": 0.5 for n in (64, 1024, 128)}
    run(tmp_path, "0_x", {"seed": 0}, metrics, "completed")
    names = [name for name in summarise(collect(tmp_path))[0] if name.startswith("test/")]
    assert names == ["test/accuracy@64", "test/accuracy@128", "test/accuracy@1024"]


def test_a_part_inside_a_part_is_told_by_the_outer_one(tmp_path: Path) -> None:
    inner = {"_target_": "kexue_pl.balancers.mgda.MGDA"}
    for number, node in enumerate(
        [{"_target_": "a.b.EMA", "rule": inner}, {"_target_": "a.b.Equal", "x": 1}]
    ):
        run(tmp_path, f"{number}_x", {"balancer": node}, {"test/x": 1.0}, "completed")
    assert {row["run"] for row in summarise(collect(tmp_path))} == {
        "balancer=EMA",
        "balancer=Equal",
    }
