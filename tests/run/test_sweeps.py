"""Sweeps: one folder a job, equal settings on all ranks, and a sweep that was killed goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_pl.testing.command import Command, until
from tests.support.cli import ROOT, tiny
from tests.support.wandb_files import run_of

FORKED = "kexue_pl.testing.forked.train"
ENV = {"KEXUE_PL_ALLOW_TARGETS": "tests"}
PAUSE = "+callbacks.pause._target_=tests.support.tiny.Pause"
GRID = ("seed=0,1", "paths.sweep_dir=sweep", "accelerator=ddp_cpu")


def jobs(sweep: Path) -> list[Path]:
    return sorted(p for p in sweep.iterdir() if p.is_dir() and p.name[0].isdigit())


def status(job: Path) -> str:
    file = job / "summary.json"
    return json.loads(file.read_text())["status"] if file.is_file() else "none"


def check_ranks_agree(job: Path) -> None:
    told = json.loads((job / "summary.json").read_text())["digest"][:12]
    for name in ("train.log", "train_rank1.log"):
        assert f"2 ranks hold the settings {told}" in (job / name).read_text()


def sweep(*words: str, cwd: Path, **env: str) -> Command:
    return Command("-m", *tiny(*words), cwd=cwd, env={**ENV, **env}, entry=FORKED)


def kill_in_second_job(*words: str, cwd: Path) -> tuple[Path, Path]:
    """Start a sweep that goes on, and kill it in the midst of its second job; the first two jobs."""
    command = sweep(*words, "resume=auto", cwd=cwd, KEXUE_PL_TEST_PAUSE="0.05")
    folder = cwd / "sweep"
    until(lambda: folder.is_dir() and len(list(folder.glob("1_*/checkpoints/last.ckpt"))) == 1)
    command.send(signal.SIGKILL)
    command.process.join()
    first, second = jobs(folder)
    return first, second


def check_went_on(first: Path, second: Path, before: int) -> None:
    """The first job was not run again since `before`, the second went on from its checkpoint."""
    assert (first / "metrics.csv").stat().st_mtime_ns == before, "a finished job ran again"
    told = (second / "train.log").read_text()
    assert told.count("starting anew") == 1 and told.count("resume=auto: ") == 2, told


def test_a_grid_of_two_ranks(tmp_path: Path) -> None:
    words = (*GRID, "trainer.max_epochs=1", "logger=wandb")
    done = sweep(*words, cwd=tmp_path).wait()
    assert done.code == 0, done.err
    found = jobs(tmp_path / "sweep")
    assert [status(job) for job in found] == ["completed"] * 2
    for job in found:
        check_ranks_agree(job)
        assert len(list((job / "wandb").glob("offline-run-*"))) == 1
    logged = [run_of(job) for job in found]
    assert {run.run_group for run in logged} == {"sweep"}
    assert len({run.run_id for run in logged}) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["sweep"]


def test_a_killed_grid_goes_on_and_grows(tmp_path: Path) -> None:
    words = (*GRID, "trainer.max_epochs=2", "callbacks.last.every_n_train_steps=1", PAUSE)
    folder = tmp_path / "sweep"
    first, second = kill_in_second_job(*words, "optimizer.lr=1e-3", cwd=tmp_path)
    before = (first / "metrics.csv").stat().st_mtime_ns
    done = sweep(*words, "optimizer.lr=1e-3", "resume=auto", cwd=tmp_path).wait()
    assert done.code == 0, done.err
    assert jobs(folder) == [first, second]
    check_went_on(first, second, before)
    table = (folder / "report.md").read_text()
    assert "| 2 | 0 |" in table and "±" in table
    # More values number the jobs anew; what was done is found by its settings.
    more = sweep("optimizer.lr=1e-2,1e-3", *words, "resume=auto", cwd=tmp_path).wait()
    assert more.code == 0, more.err
    assert more.err.count("completed before") == 2
    assert any("~" in job.name for job in jobs(folder)), "no number was taken"
    table = (folder / "report.md").read_text()
    assert "optimizer.lr=0.001" in table and "optimizer.lr=0.01" in table
    assert [status(job) for job in jobs(folder)] == ["completed"] * 4
    for job in jobs(folder):
        check_ranks_agree(job)
    # Hydra writes into the folder of a job's number; what lies beside a run is never another's.
    told = [job / ".hydra" / "overrides.yaml" for job in jobs(folder)]
    assert sum(path.exists() for path in told) >= 2
    for path in filter(Path.exists, told):
        did = (path.parents[1] / "config_resolved.yaml").read_text()
        drawn = re.findall("^- seed=(.)$", path.read_text(), re.MULTILINE)
        assert drawn == re.findall("^seed: (.)$", did, re.MULTILINE)


def test_a_stopped_grid_says_so(tmp_path: Path) -> None:
    words = ("seed=0,1", "paths.sweep_dir=sweep", PAUSE)
    command = sweep(*words, cwd=tmp_path, KEXUE_PL_TEST_PAUSE="0.05")
    until(lambda: list(tmp_path.glob("sweep/0_*/metrics.csv")))
    command.send(signal.SIGTERM)
    done = command.wait()
    assert done.code == 143
    assert "resume=auto" in done.err
    assert [status(job) for job in jobs(tmp_path / "sweep")] == ["interrupted"]


def test_a_folder_in_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kexue_pl.run import files
    from kexue_pl.run.errors import RunError

    command = Command(
        *tiny("paths.output_dir=run", PAUSE),
        cwd=tmp_path,
        env={**ENV, "KEXUE_PL_TEST_PAUSE": "0.1"},
    )
    until(lambda: (tmp_path / "run" / "metrics.csv").exists())
    refused = pytest.raises(RunError, match=f"process {command.process.pid} is writing")
    with refused, files.hold(tmp_path / "run", patience=0):
        pass
    command.send(signal.SIGKILL)
    command.process.join()
    with files.hold(tmp_path / "run", patience=0):
        pass


def outside(*words: str, cwd: Path, path: str = "") -> None:
    """`train.py` in an interpreter of its own: the launchers' workers cannot be started from a fork.

    What it and the programs it starts wrote (files `*.log` beside the runs) is told when it fails.
    """
    env = os.environ | ENV | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    env["PATH"] = f"{path}:{env['PATH']}"
    command = [sys.executable, str(ROOT / "train.py"), "-m", *tiny(*words)]
    with (cwd / "train.log").open("w") as log:
        try:
            done = subprocess.run(command, cwd=cwd, env=env, stdout=log, stderr=log, timeout=300)
            failed = done.returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
    if failed:
        pytest.fail("\n".join(f"{path.name}:\n{path.read_text()}" for path in cwd.glob("*.log")))


@pytest.mark.slow
def test_jobs_of_two_ranks_side_by_side_go_on(tmp_path: Path) -> None:
    words = ("seed=0,1", "trainer.max_epochs=2", "callbacks.last.every_n_train_steps=1", PAUSE)
    words = (*words, "paths.sweep_dir=sweep", "accelerator=ddp_cpu", "threads=1")
    first, second = kill_in_second_job(*words, cwd=tmp_path)
    before = (first / "metrics.csv").stat().st_mtime_ns
    outside(*words, "sweep=joblib", "resume=auto", cwd=tmp_path)
    assert jobs(tmp_path / "sweep") == [first, second]
    for job in (first, second):
        assert status(job) == "completed"
        check_ranks_agree(job)
    check_went_on(first, second, before)
    rows = (tmp_path / "sweep" / "report.md").read_text().splitlines()[2:]
    assert len(rows) == 1 and rows[0].startswith("| tiny | 2 | 0 |") and "±" in rows[0]


@pytest.mark.slow
def test_the_local_launcher_of_submitit(tmp_path: Path) -> None:
    words = ("hydra/launcher=submitit_local", "seed=5", "trainer.max_epochs=1")
    outside(*words, "paths.sweep_dir=sweep", cwd=tmp_path)
    (job,) = jobs(tmp_path / "sweep")
    assert status(job) == "completed"
    assert "| tiny | 1 | 0 |" in (tmp_path / "sweep" / "report.md").read_text()


SBATCH = """#!{python}
# Plays SLURM on this machine: runs the script once a task of the array, with the variables it sees.
import os, re, subprocess, sys
# Copied before the answer, as SLURM does: submitit moves the file once it has the number.
script = open(sys.argv[-1]).read()
print("Submitted batch job 7", flush=True)
if os.fork():
    sys.exit()
log = os.open("{folder}/sbatch.log", os.O_WRONLY | os.O_CREAT)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number in (1, 2):
    os.dup2(log, number)
last = int(re.search("--array=0-([0-9]+)", script)[1])
for number in range(last + 1):
    env = os.environ | dict(
        SLURM_JOB_ID=str(7 + number), SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(number),
        SLURM_NTASKS="1", SLURM_NTASKS_PER_NODE="1", SLURM_PROCID="0", SLURM_LOCALID="0",
        SLURM_JOB_NUM_NODES="1", SLURM_NODELIST="here", SLURM_JOB_NODELIST="here",
        SLURM_NODEID="0", SLURM_JOB_NAME="train",
    )
    subprocess.run(["bash", "-c", script], env=env)
"""
SRUN = """#!/bin/bash
while [[ "$1" == -* ]]; do
  if [[ "$1" == "--output" || "$1" == "--error" ]]; then shift; fi
  shift
done
exec "$@" >> {folder}/srun.log 2>&1
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


@pytest.mark.slow
def test_the_slurm_preset_submits_and_its_script_runs(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    program(tools / "sbatch", SBATCH.format(python=sys.executable, folder=tmp_path))
    program(tools / "srun", SRUN.format(folder=tmp_path))
    program(tools / "sacct", "#!/bin/bash\necho 'JobID|State'\n")
    words = ("sweep=slurm", "seed=5,6", "trainer.max_epochs=1", "resume=auto")
    outside(*words, "paths.sweep_dir=sweep", cwd=tmp_path, path=str(tools))
    script = next((tmp_path / "sweep").rglob("*submission*.sh")).read_text()
    for line in (
        "--array=0-1",
        "--gpus-per-node=1",
        "--cpus-per-task=8",
        "--ntasks-per-node=1",
        "--time=1440",
        "--nodes=1",
        "--signal=USR2",
    ):
        assert line in script, script
    assert [status(job) for job in jobs(tmp_path / "sweep")] == ["completed"] * 2


def test_a_job_of_a_cluster_starts_its_own_ranks(tmp_path: Path) -> None:
    task = {"NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "train"}
    task |= {"JOB_ID": "7", "NODELIST": "here", "JOB_NODELIST": "here", "NTASKS_PER_NODE": "1"}
    env = ENV | {f"SLURM_{name}": value for name, value in task.items()}
    words = tiny("paths.output_dir=run", "trainer.max_epochs=1", "accelerator=ddp_cpu")
    done = Command(*words, cwd=tmp_path, env=env, entry=FORKED).wait()
    assert done.code == 0, done.err
    check_ranks_agree(tmp_path / "run")


def test_the_warning_of_a_cluster_saves_and_stops(tmp_path: Path) -> None:
    command = Command(
        *tiny("paths.output_dir=run", PAUSE),
        cwd=tmp_path,
        env={**ENV, "KEXUE_PL_TEST_PAUSE": "0.05"},
    )
    until(lambda: (tmp_path / "run" / "metrics.csv").exists())
    command.send(signal.SIGUSR2)
    assert command.wait().code == 128 + signal.SIGUSR2
    assert status(tmp_path / "run") == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
