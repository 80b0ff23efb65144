"""The command line as a user meets it: help, mistakes, a whole run, a sweep, two ranks."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_pl.run.checkpoint_io import read
from tests.support.cli import ROOT, Command, tiny, train

MISTAKES = [
    (["optimizer.lrr=0.1"], "optimizer.lrr", "'lr'"),
    (["optimzer.lr=0.1"], "optimzer", "'optimizer'"),
    (["optimizer=adamww"], "optimizer=adamww", "'adamw'"),
    (["seed=hi"], "seed", "Integer"),
    (["trainer.max_epoch=3"], "trainer.max_epoch", "'max_epochs'"),
    (["trainer.max_epochs=many"], "trainer.max_epochs", "Integer"),
    (["trainer.precision=bf16-mxied"], "trainer.precision", "'bf16-mixed'"),
    (["trainer.max_epochs=null"], "trainer.max_epochs", "max_steps"),
    (["trainer.accumulate_grad_batches=0"], "accumulate_grad_batches", "at least 1"),
    (["+foo=1"], "foo", "unknown"),
    (["+model.hiden=1"], "model", "hiden"),
    (["task=machting"], "task=machting", "'matching'"),
    (["resume=nowhere.ckpt"], "resume=nowhere.ckpt", "no such file"),
    (["resume=http://x/y.ckpt"], "resume", "remote"),
    (["+logger.wandb.api_key=abcd1234"], "api_key", "secret"),
    (["+task._target_=os.system"], "task", "_target_"),
    (["seed=1,2"], "seed", "-m"),
    (["no equal sign"], "no equal sign", "key=value"),
    (["monitor.mode=best"], "monitor.mode", "min or max"),
    (["data.batch_size=0"], "data", "at least 1"),
    (["train=false"], "train=false", "resume"),
]


@pytest.mark.parametrize(("words", "key", "hint"), MISTAKES, ids=lambda v: str(v)[:40])
def test_mistakes_are_told_shortly(tmp_path: Path, words: list[str], key: str, hint: str) -> None:
    done = train(*words, "paths.output_dir=run", cwd=tmp_path)
    assert done.code == 1
    assert len(done.err.splitlines()) <= 6, done.err
    assert key in done.err, done.err
    assert hint in done.err, done.err
    assert "Traceback" not in done.err
    assert "abcd1234" not in done.err + done.out
    assert not list(tmp_path.rglob("*.ckpt"))
    summary = tmp_path / "run" / "summary.json"
    assert not summary.exists() or json.loads(summary.read_text())["status"] == "failed"


def test_the_multirun_flag_may_stand_anywhere(tmp_path: Path) -> None:
    words = ("task=matching", "-m", "model=static", "seed=0,1", "debug=fdr", "data.train=200")
    done = train(*words, "paths.sweep_dir=sweep", cwd=tmp_path)
    assert done.code == 0, done.err
    assert len(list((tmp_path / "sweep").rglob("summary.json"))) == 2


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    done = train("optimizer.lrr=1", "trainer.max_epoch=2", "seedd=3", cwd=tmp_path)
    assert all(word in done.err for word in ("optimizer.lrr", "trainer.max_epoch", "seedd"))


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]], ids=["help", "cfg"])
def test_no_torch_before_a_run(tmp_path: Path, words: list[str]) -> None:
    code = (
        "import sys, resource; sys.argv[1:] = " + repr(words) + "\n"
        "from kexue_pl.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'lightning', 'transformers', 'wandb', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print('cpu', resource.getrusage(resource.RUSAGE_SELF).ru_utime)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "matching" in shown
    if words == ["--help"]:
        assert all(f"\n{group}=" in shown for group in ("task", "loss", "balancer", "attention"))
        assert shown.count("python train.py") >= 4


def test_a_run_leaves_what_it_promises(tmp_path: Path) -> None:
    done = train(*tiny("paths.output_dir=run"), cwd=tmp_path)
    assert done.code == 0, done.err
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["task"] == "tiny"
    assert summary["metrics"]["test/loss"] > 0
    assert Path(summary["checkpoint"]) == run / "checkpoints" / "best.ckpt"
    assert {"torch", "lightning", "python"} <= set(summary["versions"])
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "config_resolved.yaml").is_file()
    assert list((run / "plots").glob("*.png"))
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    assert {"train/loss", "val/loss", "test/loss", "lr-AdamW/pg1"} <= set(rows[0])
    assert "test/loss" in done.out
    log = (run / "train.log").read_text().splitlines()
    assert len(log) == len(set(log)), "a log line stands twice"


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    one = train(
        *tiny("paths.output_dir=one", "task.dropout=0", "trainer.max_epochs=2"), cwd=tmp_path
    )
    two = train(
        *tiny(
            "paths.output_dir=two", "task.dropout=0", "trainer.max_epochs=2", "accelerator=ddp_cpu"
        ),
        cwd=tmp_path,
    )
    assert one.code == two.code == 0, two.err
    metrics = [
        json.loads((tmp_path / n / "summary.json").read_text())["metrics"] for n in ("one", "two")
    ]
    for name in ("val/loss", "test/loss"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_a_failed_job_does_not_stop_the_sweep(tmp_path: Path) -> None:
    done = train(
        "-m",
        *tiny("data.batch_size=16,0,32", "paths.sweep_dir=sweep", "trainer.max_epochs=1"),
        cwd=tmp_path,
    )
    assert done.code == 1
    assert "at least 1" in done.err
    states = [
        json.loads(path.read_text())["status"]
        for path in (tmp_path / "sweep").rglob("summary.json")
    ]
    assert states.count("completed") == 2


def test_a_completed_job_is_not_run_again(tmp_path: Path) -> None:
    words = tiny("paths.output_dir=run", "trainer.max_epochs=1")
    assert train(*words, cwd=tmp_path).code == 0
    before = (tmp_path / "run" / "metrics.csv").stat().st_mtime_ns
    again = train(*words, "resume=auto", cwd=tmp_path)
    assert again.code == 0
    assert "completed before" in again.err
    assert (tmp_path / "run" / "metrics.csv").stat().st_mtime_ns == before


def test_nan_stops_the_run_with_the_rows_and_a_saved_state(tmp_path: Path) -> None:
    words = tiny("paths.output_dir=run", "data.nan_row=7", "task.dropout=0")
    done = train(*words, "callbacks.nonfinite_guard.limit=1", cwd=tmp_path)
    assert done.code == 1
    assert "NaN or infinite" in done.err
    line = json.loads((tmp_path / "run" / "nonfinite.jsonl").read_text().splitlines()[0])
    assert 7 in line["rows"]
    saved = read(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == line["step"] + 1
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())
    # From there the run goes on behind the bad rows, and counts on.
    again = train(*words, "resume=auto", "callbacks.nonfinite_guard.limit=5", cwd=tmp_path)
    assert again.code == 0, again.err
    assert metrics(tmp_path / "run")["train/skipped"] == 4.0


def metrics(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "summary.json").read_text())["metrics"])


BAD = {"NaN": "data.nan_row=50", "an infinite loss": "+task.overflow=11"}


@pytest.mark.parametrize("accelerator", ["cpu", "ddp_cpu"])
@pytest.mark.parametrize("kind", BAD)
def test_a_nan_row_is_skipped_by_all_ranks(tmp_path: Path, accelerator: str, kind: str) -> None:
    """One rank's batch is bad: all ranks leave the step out and stay finite and bitwise equal."""
    ranks = "+callbacks.ranks._target_=tests.support.tiny.WeightsOfRanks"
    words = tiny("paths.output_dir=run", BAD[kind], f"accelerator={accelerator}", ranks)
    done = train(*words, cwd=tmp_path, entry="kexue_pl.testing.forked.train")
    assert done.code == 0, done.err
    # The row comes once in each of four epochs; a skipped step counts, so the loss is bad once.
    assert metrics(tmp_path / "run")["train/skipped"] == (4.0 if kind == "NaN" else 1.0)
    assert metrics(tmp_path / "run")["test/loss"] < 1.0
    left = [p.read_text() for p in sorted((tmp_path / "run").glob("weights_rank*.txt"))]
    assert len(left) == 1 + (accelerator == "ddp_cpu")
    assert len(set(left)) == 1 and left[0].endswith("True")


def test_started_by_torchrun(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command += [str(ROOT / "train.py")]
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "KEXUE_PL_ALLOW_TARGETS": "tests",
        "PYTHONPATH": str(ROOT),
    }
    words = [
        "task=matching",
        "model=static",
        "debug=limit",
        "accelerator=ddp_cpu",
        "paths.output_dir=run",
    ]
    done = subprocess.run(
        [*command, *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"
    assert [p.name for p in tmp_path.iterdir() if p.name != "outputs"] == ["run"]
    told = json.loads((tmp_path / "run" / "summary.json").read_text())["digest"][:12]
    for name in ("train.log", "train_rank1.log"):
        assert f"2 ranks hold the settings {told}" in (tmp_path / "run" / name).read_text()


def test_a_second_interrupt_is_not_needed(tmp_path: Path) -> None:
    import signal

    from tests.support.cli import until

    command = Command(
        *tiny("paths.output_dir=run", "+callbacks.pause._target_=tests.support.tiny.Pause"),
        cwd=tmp_path,
        env={"KEXUE_PL_TEST_PAUSE": "0.05"},
    )
    until(lambda: (tmp_path / "run" / "metrics.csv").exists())
    command.send(signal.SIGINT)
    done = command.wait()
    assert done.code == 130
    assert "resume=auto" in done.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"


GOOD = "".join(f"今天天气{i}好吗\t天气{i}怎么样\t{i % 2}\n" for i in range(40))
DATA_MISTAKES = {
    "missing": (None, "train.tsv", "no such file"),
    "empty": (b"", "train.tsv", "no rows"),
    "one_field": (GOOD.encode() + "只有一列\n".encode(), "train.tsv:41", "field"),
    "extra_field": (GOOD.encode() + "a\tb\t1\t多\n".encode(), "train.tsv:41", "field"),
    "bad_label": (GOOD.encode() + "a\tb\t是\n".encode(), "train.tsv:41", "label"),
    "not_utf8": (GOOD.encode("gbk"), "train.tsv", "UTF-8"),
    "empty_text": (GOOD.encode() + b"\tb\t1\n", "train.tsv:41", "empty"),
    "commas": (GOOD.replace("\t", ",").encode(), "train.tsv:1", "comma"),
}


@pytest.mark.parametrize("name", DATA_MISTAKES)
def test_mistakes_in_data_name_file_and_line(tmp_path: Path, name: str) -> None:
    content, place, hint = DATA_MISTAKES[name]
    if content is not None:
        (tmp_path / "train.tsv").write_bytes(content)
    (tmp_path / "valid.tsv").write_text(GOOD, encoding="utf-8")
    words = ["task=matching", "data=files", "data.train=train.tsv", "data.valid=valid.tsv"]
    done = train(*words, "model=static", "paths.output_dir=run", cwd=tmp_path)
    assert done.code == 1
    assert len(done.err.splitlines()) <= 6, done.err
    assert place in done.err, done.err
    assert hint in done.err, done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"a": f"x{i}", "b": f"y{i}", "label": i % 2}) + "\n" for i in range(40)
    )
    (tmp_path / "t.jsonl").write_text(rows)
    words = ["task=matching", "data=files", "data.train=t.jsonl", "data.text1_column=aa"]
    done = train(*words, "model=static", "paths.output_dir=run", cwd=tmp_path)
    assert done.code == 1
    assert "aa" in done.err and "'a'" in done.err, done.err


def test_one_class_of_labels_is_an_error(tmp_path: Path) -> None:
    rows = "".join(f"天气{i}好吗\t天气{i}如何\t1\n" for i in range(40))
    (tmp_path / "t.tsv").write_text(rows, encoding="utf-8")
    words = [
        "task=matching",
        "data=files",
        "data.train=t.tsv",
        "data.valid=t.tsv",
        "data.drop_leaked=false",
    ]
    done = train(*words, "model=static", "paths.output_dir=run", cwd=tmp_path)
    assert done.code == 1
    assert "all labels are 1" in done.err and "loss=info_nce" in done.err, done.err
