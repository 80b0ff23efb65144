"""A search is killed and goes on: no trial is lost, none is run twice, ranks agree in each."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest

from kexue_pl.testing.command import Command, until
from kexue_pl.testing.survival import COMMON, MATCHING, MULTITASK
from kexue_pl.tune.study import curve

ENTRY = "kexue_pl.testing.forked.tune"
RUN = (*COMMON[1:], *MATCHING, "trainer.max_epochs=3")
LR = "optimizer.lr=tag(log,interval(1e-3,1e-1))"


def table(study: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((study / "trials.csv").read_text().splitlines()))


def tune(*words: str, cwd: Path) -> Command:
    return Command("--study", "study", *words, cwd=cwd, entry=ENTRY)


@pytest.mark.slow
def test_a_killed_study_of_two_ranks_goes_on(tmp_path: Path) -> None:
    study = tmp_path / "study"
    words = (
        "--trials",
        "3",
        *RUN,
        LR,
        "accelerator=ddp_cpu",
        "callbacks.last.every_n_train_steps=1",
    )
    command = tune(*words, cwd=tmp_path)
    until(lambda: (study / "001" / "checkpoints" / "last.ckpt").exists())
    command.send(signal.SIGKILL)
    command.process.join()
    first = (study / "000" / "summary.json").stat().st_mtime_ns
    done = tune(*words, cwd=tmp_path).wait()
    assert done.code == 0, done.err
    assert [int(row["trial"]) for row in sorted(table(study), key=lambda r: r["trial"])] == [
        0,
        1,
        2,
    ]
    assert {row["state"] for row in table(study)} == {"complete"}
    assert (study / "000" / "summary.json").stat().st_mtime_ns == first, (
        "a finished trial ran again"
    )
    told = (study / "001" / "train.log").read_text()
    assert told.count("starting anew") == 1 and told.count("resume=auto") == 2, told
    for number in range(3):
        folder = study / f"{number:03d}"
        told = json.loads((folder / "summary.json").read_text())["digest"][:12]
        assert f"2 ranks hold the settings {told}" in (folder / "train.log").read_text()
        assert f"2 ranks hold the settings {told}" in (folder / "train_rank1.log").read_text()
    best = max(table(study), key=lambda row: float(row["val/spearman"]))
    assert best == table(study)[0]
    assert best["optimizer.lr"][:6] in (study / "best.txt").read_text()


def test_a_study_prunes_stops_and_is_extended(tmp_path: Path) -> None:
    study = tmp_path / "study"
    words = (*COMMON[1:], *MULTITASK, "trainer.max_epochs=6", "balancer=equal,geometric")
    words = (*words, "optimizer.lr=choice(1e-9,3e-3)", "--seed", "1")
    done = tune("--trials", "6", *words, cwd=tmp_path).wait()
    assert done.code == 0, done.err
    assert len(table(study)) == 6
    states = [row["state"] for row in table(study)]
    assert set(states) <= {"complete", "pruned"} and states.count("complete") >= 4
    more = tune("--trials", "7", *words, cwd=tmp_path).wait()
    assert more.code == 0, more.err
    assert len(table(study)) == 7
    best = table(study)[0]
    values = [value for _, value in curve(study / f"{int(best['trial']):03d}", "val/score")]
    assert float(best["val/score"]) == pytest.approx(max(values), abs=1e-5)
    assert best["optimizer.lr"] == "0.003"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("optimizer.lr=1e-3",), "nothing to search"),
        (("optimizer.lrr=interval(1,2)",), "optimizer.lrr"),
        (("optimizer.lr=interval(1,2)", "paths.output_dir=x"), "the search sets this itself"),
        (("optimizer.lr=interval(1,2)", "logger.wandb.api_key=abc"), "secret"),
    ],
)
def test_mistakes_are_told_shortly(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = tune(*words, cwd=tmp_path).wait()
    assert done.code == 1
    assert said in done.err and len(done.err.splitlines()) <= 6, done.err
    assert not (tmp_path / "study").exists()
