"""Pareto fronts of a sweep, and descents over problems without data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.data.quadratics import Quadratics
from kexue_pl.data.toy import FRONT, Toy
from kexue_pl.report.pareto import pareto_front, plot_pareto, task_metrics
from kexue_pl.report.sweeps import report
from kexue_pl.tasks.descent import DescentRecord


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1))
@settings(max_examples=60, deadline=None)
def test_a_point_is_on_the_front_if_and_only_if_nothing_dominates_it(points: Any) -> None:
    for point, kept in zip(points, pareto_front(points)):
        beaten = any(
            all(b >= a for a, b in zip(point, q)) and any(b > a for a, b in zip(point, q))
            for q in points
        )
        assert kept != beaten


def test_losses_judge_where_not_all_tasks_have_an_accuracy() -> None:
    row: dict[str, Any] = {"test/loss/a": (1.0, 0.0), "test/loss/b": (2.0, 0.0)}
    assert task_metrics([row]) == {"test/loss/a": -1.0, "test/loss/b": -1.0}
    row |= {"test/a/accuracy": (1.0, 0.0)}
    assert set(task_metrics([row]).values()) == {-1.0}
    row |= {"test/b/accuracy": (1.0, 0.0)}
    assert task_metrics([row]) == {"test/a/accuracy": 1.0, "test/b/accuracy": 1.0}


def test_a_sweep_of_one_task_or_one_run_has_no_front(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"run": "x", "test/loss/a": (1.0, 0.0)}] * 2
    assert plot_pareto(tmp_path / "pareto.png", rows) is None
    assert not (tmp_path / "pareto.png").exists()


def written(folder: Path, name: str, data: Any, target: str, points: list[list[float]]) -> None:
    record = DescentRecord(data)
    for step, point in enumerate(points):
        record.add(step, torch.tensor(point))
    path = folder / f"{len(list(folder.iterdir()))}_run"
    path.mkdir()
    keys = list(record.rows[0])
    lines = [",".join(keys), *(",".join(str(row[k]) for k in keys) for row in record.rows)]
    (path / "descent.csv").write_text("\n".join(lines) + "\n")
    node = {"_target_": target, "scale": 1.0}
    config = {"balancer": {"_target_": f"b.{name}"}, "data": node}
    (path / "config_resolved.yaml").write_text(yaml.safe_dump(config))
    last = record.rows[-1]
    metrics = {"test/loss/f1": last["f1"], "test/loss/f2": last["f2"]}
    summary = {"status": "completed", "metrics": metrics}
    (path / "summary.json").write_text(json.dumps(summary))


def test_a_sweep_over_the_toy_problem_draws_its_landscape_and_its_front(tmp_path: Path) -> None:
    for name, end in (("Equal", [-7.0, 4.0]), ("MGDA", [2.0, FRONT])):
        written(tmp_path, name, Toy(), "kexue_pl.data.toy.Toy", [[-8.5, 7.5], end])
    report(tmp_path)
    names = {"landscape.png", "front.png", "front_distance.png", "pareto.png"}
    assert names <= {path.name for path in tmp_path.glob("*.png")}
    assert (tmp_path / "report.html").read_text().count("data:image/png") >= 5


@pytest.mark.parametrize("tasks", [2, 4])
def test_the_known_front_is_at_distance_zero_and_its_points_are_not_dominated(tasks: int) -> None:
    data = Quadratics(tasks=tasks)
    points = data.front(50)
    assert max(data.measure(x)["front_distance"] for x in points) < 1e-6
    assert all(pareto_front([[-float(f) for f in data.losses(x)] for x in points]))
    far = points[3] + 1.0
    assert data.measure(far)["front_distance"] > 0.01
    assert max(Toy().measure(x)["front_distance"] for x in Toy().front(9)) < 1e-6


def test_a_record_keeps_the_points_and_draws_them(tmp_path: Path) -> None:
    record = DescentRecord(Quadratics())
    known = record.add(0, torch.ones(10))
    record.add(10, torch.zeros(10))
    assert known["front_distance"] == record.rows[0]["front_distance"] > 0
    assert {"step", "x1", "x10", "f1", "f2", "balance"} <= set(record.rows[0])
    names = {path.name for path in record.plots(tmp_path)}
    assert names == {"front.png", "front_distance.png"}
