"""The table of feature and interaction: its cells, its choice, its verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.scripts import script

TEXTS = ["氢的符号", "氧的符号", "铁的熔点", "法国的首都", "金的密度", "水的沸点"]


def write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, top in (("LCQMC.valid", 1), ("LCQMC.test", 1)):
        rows = []
        for number in range(160):
            left = f"{TEXTS[rng.integers(6)]}{number}{name[-1]}"
            same = rng.random() < 0.5
            right = f"请问{left}" if same else f"{TEXTS[rng.integers(6)]}是{number}{name[-2]}"
            rows.append(f"{left}\t{right}\t{int(same) * top}")
        (folder / f"{name}.data").write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    return script("scripts/articles/matching.py", monkeypatch)


@pytest.mark.filterwarnings("ignore")
def test_all_twelve_cells_train_every_part_that_scores(module: Any, tmp_path: Path) -> None:
    from matching_cells import Model

    write(tmp_path)
    data = module.load(tmp_path, "LCQMC")
    batch = data.collate([data.train_set[row] for row in range(24)])
    for how in module.INTERACTIONS:
        for loss in module.LOSSES:
            cell = module.grid("LCQMC", how, loss, 0)[0]
            model = Model(cell, data.tokenizer)
            value = model.loss(batch)
            value.backward()
            gradient = model.pair.encoder.embeddings.weight.grad
            assert torch.isfinite(value) and gradient.abs().sum() > 0, (how, loss)
            assert model.scores(batch).shape == (24,)


def test_all_losses_of_an_interaction_choose_among_as_many_settings(module: Any) -> None:
    for how in module.INTERACTIONS:
        sizes = {len(module.grid("BQ", how, loss, 0)) for loss in module.LOSSES}
        assert len(sizes) == 1
        files = [
            cell.file(Path()) for loss in module.LOSSES for cell in module.grid("BQ", how, loss, 0)
        ]
        assert len(set(files)) == len(files)


@pytest.mark.filterwarnings("ignore")
def test_a_finished_cell_is_not_trained_again(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write(tmp_path)
    words = ["x", str(tmp_path), "--out", str(tmp_path / "out"), "--sets", "LCQMC", "--seeds", "0"]
    words += ["--interactions", "bi", "--losses", "CoSENT", "SBERT softmax"]
    monkeypatch.setattr("sys.argv", words)
    module.main()
    first = capsys.readouterr().out.splitlines()
    monkeypatch.setattr("matching_cells.fit", None)
    module.main()
    assert capsys.readouterr().out.splitlines() == first
    monkeypatch.setattr("sys.argv", [*words, "--print"])
    module.main()
    assert capsys.readouterr().out.splitlines() == [x for x in first if x in first][2:]
    assert any("CoSENT minus bi SBERT softmax" in line for line in first)


def test_the_error_of_a_difference_knows_that_rows_are_shared(module: Any) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(500)
    one = [labels + rng.normal(size=500) * 0.3] * 2
    assert module.difference(one, one, labels) == (0, 0)
    worse = [labels + rng.normal(size=500) for _ in range(2)]
    gap, error = module.difference(one, worse, labels)
    assert gap > 2 * error > 0
