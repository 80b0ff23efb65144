"""Time of a step under this runner, a bare lightning.Trainer and a loop written by hand.

    python scripts/bench/loop.py [--steps 1050] [--rounds 6] [--task mlm]

The same model, data, optimizer, schedule and clipping in one process, in turns. `runner` is all of a
run: its callbacks, guard, metrics.csv, checkpoints every 500 steps. `trainer` is lightning.Trainer
without logger and checkpoints, which logs its loss as usual. Whatever else runs on the machine only adds
time, so of each place in 500 steps (a checkpoint is written at one, metrics at every tenth) the least over
all such spans of all rounds is taken, and the mean of the places printed, of CPU time and of the clock on the
wall; beside their ratio those of the even and of the odd rounds alone, which tell how sure it is. The
start-up time is that of a whole process that trains one step.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

LIMIT = 1.03
PERIOD = 500
TASKS = {
    "mlm": (
        "task=mlm",
        "data=recall",
        "data.train_length=32",
        "data.eval_lengths=[32]",
        "data.keys=64",
        "data.rows=40000",
        "data.test_tokens=64",
        "data.batch_size=32",
    ),
    "matching": ("task=matching", "data.train=4000", "data.batch_size=32", "model=small"),
    "static": ("task=matching", "data.train=4000", "data.batch_size=32", "model.hidden_size=64"),
}
QUIET = (
    "test=false",
    "threads=1",
    "trainer.enable_model_summary=false",
    "trainer.limit_val_batches=0",
    "trainer.max_epochs=1000",
    "callbacks.best=null",
)


def settings(task: str, steps: int, folder: Path) -> dict[str, Any]:
    """The configuration of the run."""
    from hydra import compose, initialize_config_dir

    from kexue_pl.run.config import config_dir, plain, register

    register()
    words = [*TASKS[task], *QUIET, f"trainer.max_steps={steps}", f"paths.output_dir={folder}"]
    words.append(f"paths.cache={folder.parent}/cache")
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return plain(compose("train", overrides=words))


def parts(config: dict[str, Any]) -> tuple[Any, Any]:
    """Data and task, built as a run builds them."""
    import lightning as L

    from kexue_pl.run.train import assemble, set_total_steps

    L.seed_everything(config["seed"], workers=True, verbose=False)
    data, task = assemble(config)
    set_total_steps(config, task, data)
    return data, task


def by_hand(config: dict[str, Any]) -> None:
    """A loop of plain PyTorch."""
    import torch

    data, task = parts(config)
    made = task.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    task.train()
    done = 0
    while done < config["trainer"]["max_steps"]:
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            task.loss(batch).backward()
            torch.nn.utils.clip_grad_norm_(
                task.parameters(), config["trainer"]["gradient_clip_val"]
            )
            optimizer.step()
            schedule.step()
            done += 1
            if done == config["trainer"]["max_steps"]:
                return


def by_trainer(config: dict[str, Any]) -> None:
    """A bare lightning.Trainer."""
    import lightning as L

    data, task = parts(config)

    class Bare(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.task = task

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.task.loss(batch)
            self.log("train/loss", loss.detach(), batch_size=1)
            return loss

        def configure_optimizers(self) -> Any:
            return self.task.configure_optimizers()

    trainer = L.Trainer(
        max_epochs=-1,
        max_steps=config["trainer"]["max_steps"],
        gradient_clip_val=config["trainer"]["gradient_clip_val"],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(Bare(), data.train_dataloader())


def by_runner(config: dict[str, Any]) -> None:
    """Everything that train.py does after the command line was read."""
    from kexue_pl.run.train import train

    train(config)


WAYS: dict[str, Callable[[dict[str, Any]], None]] = {
    "hand": by_hand,
    "trainer": by_trainer,
    "runner": by_runner,
}


def stamped(task: str) -> list[tuple[float, float]]:
    """CPU and wall time at the beginning of each loss, for whoever calls it."""
    from kexue_pl.tasks.matching import MatchingTask
    from kexue_pl.tasks.mlm import MLMTask

    kind: Any = MLMTask if task == "mlm" else MatchingTask
    stamps: list[tuple[float, float]] = []
    loss = kind.loss

    @functools.wraps(loss)
    def timed(self: Any, batch: Any) -> Any:
        stamps.append((time.process_time(), time.perf_counter()))
        return loss(self, batch)

    kind.loss = timed
    return stamps


Steps = list[tuple[float, float]]
"""CPU and wall seconds of each step of a run."""


def measure(task: str, steps: int, rounds: int) -> dict[str, list[Steps]]:
    """The steps of each way and round."""
    stamps = stamped(task)
    found: dict[str, list[Steps]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in list(WAYS)[number % 3 :] + list(WAYS)[: number % 3]:
            stamps.clear()
            with tempfile.TemporaryDirectory() as folder:
                WAYS[name](settings(task, steps, Path(folder) / "run"))
            found[name].append([(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(stamps)])
    return found


def typical(runs: list[Steps], which: int) -> float:
    """Mean over the places in a period of the least time there; the first period is not counted."""
    spans = [
        [step[which] for step in run[start : start + PERIOD]]
        for run in runs
        for start in range(PERIOD - 1, len(run) - PERIOD + 1, PERIOD)
    ]
    return fmean(min(place) for place in zip(*spans, strict=True))


def start_up(task: str, times: int) -> dict[str, float]:
    """Median wall seconds of a process that trains one step."""
    found: dict[str, float] = {}
    for name in WAYS:
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            words = [sys.executable, __file__, "--task", task, "--once", name]
            subprocess.run(words, check=True, capture_output=True)
            taken.append(time.perf_counter() - begun)
        found[name] = median(taken)
    return found


def main() -> int:
    """Print the table; 0 if the runner is within its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="mlm")
    parser.add_argument("--steps", type=int, default=1050, help="at least 1000")
    parser.add_argument("--rounds", type=int, default=6, help="at least 2")
    parser.add_argument("--starts", type=int, default=3, help="processes timed from their start")
    parser.add_argument("--once", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    if args.once:
        with tempfile.TemporaryDirectory() as folder:
            WAYS[args.once](settings(args.task, 1, Path(folder) / "run"))
        return 0
    import torch

    torch.set_num_threads(1)
    found = measure(args.task, args.steps, args.rounds)
    starts = start_up(args.task, args.starts) if args.starts else dict.fromkeys(WAYS, float("nan"))
    print(f"{args.task}, {args.steps} steps, {args.rounds} rounds\n")
    print(
        "| loop | CPU ms a step | over trainer | even, odd rounds | wall ms a step | start-up s |"
    )
    print("|---|---|---|---|---|---|")
    over: dict[str, float] = {}
    for name, runs in found.items():
        all_, *halves = (
            typical(runs[part], 0) / typical(found["trainer"][part], 0)
            for part in (slice(None), slice(0, None, 2), slice(1, None, 2))
        )
        over[name] = all_
        cpu, wall = typical(runs, 0) * 1e3, typical(runs, 1) * 1e3
        print(
            f"| {name} | {cpu:.3f} | {all_:.3f} | {halves[0]:.3f}, {halves[1]:.3f} | {wall:.3f} | "
            f"{starts[name]:.1f} |"
        )
    more = over["runner"] - 1
    print(f"\nrunner over trainer: {100 * more:+.1f} % of CPU time a step (limit +3 %)")
    return 0 if over["runner"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
