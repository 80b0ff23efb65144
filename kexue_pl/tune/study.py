"""A study that survives: each trial is a run in a folder of its own, its state a journal beside them."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_pl.run.errors import Interrupted
from kexue_pl.run.files import hold, read_json
from kexue_pl.run.launch import end_with_parent
from kexue_pl.run.log import logger
from kexue_pl.tune.space import Space

__all__ = ["Tuner", "curve"]


def curve(folder: Path, metric: str) -> list[tuple[int, float]]:
    """Step and value of a metric in the metrics.csv of a run; empty before the first."""
    try:
        with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get(metric) and row["step"]]
        return [(int(row["step"]), float(row[metric])) for row in rows]
    except (OSError, ValueError, TypeError):  # not there yet, or in the midst of being written
        return []


def start_run(words: list[str], console: Path) -> subprocess.Popen[bytes]:
    """Start `train.py` with these words; what it prints is appended to `console`."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(console, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "kexue_pl.cli", *words],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": path},
            preexec_fn=end_with_parent(),
        )


class Tuner:
    """Asks Optuna for settings, trains them as processes, tells it what came out.

    A trial that was running when the tuner died is taken up again: its run goes on from its newest
    checkpoint. What counts is the best validation value of a trial; the test set is not looked at.

    Args:
        folder: of the study: journal, one folder a trial.
        space: what is searched.
        fixed: overrides of every trial.
        metric: validation metric, one of those in metrics.csv.
        mode: "min" or "max".
        pruner: `median`, `hyperband` or `none`; judged whenever a run has validated.
        seed: of the sampler.
        poll: seconds between two looks at the runs.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        fixed: list[str],
        *,
        metric: str,
        mode: str = "max",
        pruner: str = "median",
        seed: int = 0,
        poll: float = 1.0,
    ) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        pruners: dict[str, Callable[[], Any]] = {
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=4),
            "hyperband": optuna.pruners.HyperbandPruner,
            "none": optuna.pruners.NopPruner,
        }
        folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.space, self.fixed = folder, space, fixed
        self.metric, self.mode, self.poll = metric, mode, poll
        storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
        self.study = optuna.create_study(
            storage=storage,
            study_name="kexue_pl",
            load_if_exists=True,
            direction="minimize" if mode == "min" else "maximize",
            pruner=pruners[pruner](),
            sampler=optuna.samplers.TPESampler(seed=seed),
        )
        # A study that goes on must not draw the same numbers once more.
        began = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = optuna.samplers.TPESampler(seed=seed + began)

    def run(self, trials: int, jobs: int = 1) -> None:
        """Bring the study to `trials` trials, `jobs` of them at once.

        Raises:
            Interrupted: a signal; the trials in flight have saved their state.
        """
        with hold(self.folder), _Signals() as asked:
            waiting = self._orphans()
            live: dict[int, tuple[Any, subprocess.Popen[bytes]]] = {}
            while True:
                while len(live) < jobs and not asked.number:
                    trial = waiting.pop(0) if waiting else self._next(trials)
                    if trial is None:
                        break
                    live[trial.number] = (trial, self._start(trial))
                if not live:
                    break
                time.sleep(self.poll)
                for number in [n for n, (t, p) in live.items() if self._look(t, p, asked.number)]:
                    del live[number]
            if asked.number:
                raise Interrupted(asked.number)

    def _orphans(self) -> list[Any]:
        """Trials whose tuner died before they ended."""
        from optuna.trial import Trial, TrialState

        left = self.study.get_trials(states=(TrialState.RUNNING,), deepcopy=False)
        return [Trial(self.study, frozen._trial_id) for frozen in left]

    def _next(self, trials: int) -> Any:
        if len(self.study.get_trials(deepcopy=False)) >= trials:
            return None
        return self.study.ask()

    def path(self, trial: Any) -> Path:
        """Folder of a trial."""
        return self.folder / f"{trial.number:03d}"

    def _start(self, trial: Any) -> subprocess.Popen[bytes]:
        folder, drawn = self.path(trial), self.space.draw(trial)
        folder.mkdir(exist_ok=True)
        logger.info("trial %d: %s", trial.number, " ".join(drawn))
        words = [*self.fixed, *drawn, "test=false", "resume=auto", f"paths.output_dir={folder}"]
        return start_run(words, folder / "console.log")

    def _look(self, trial: Any, process: subprocess.Popen[bytes], asked: int) -> bool:
        """Report what a run has reached; prune it, or close its trial. True if it has ended."""
        from optuna.trial import TrialState

        code = process.poll()
        values = curve(self.path(trial), self.metric)
        if asked:
            if code is None:
                process.send_signal(signal.SIGTERM)
                process.wait()
            return True  # the trial stays open, to be taken up again
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for step, value in values:
            if step not in known:
                trial.report(value, step)
        if code is None:
            if values and trial.should_prune():
                process.send_signal(signal.SIGTERM)
                process.wait()
                logger.info("trial %d: pruned at step %d", trial.number, values[-1][0])
                self.study.tell(trial, state=TrialState.PRUNED)
                return True
            return False
        self._close(trial, values, code)
        return True

    def _close(self, trial: Any, values: list[tuple[int, float]], code: int) -> None:
        from optuna.trial import TrialState

        summary = read_json(self.path(trial) / "summary.json") or {}
        if code or summary.get("status") != "completed" or not values:
            reason = summary.get("error") or f"exit code {code}; see {self.path(trial)}/console.log"
            logger.warning("trial %d failed: %s", trial.number, reason)
            self.study.tell(trial, state=TrialState.FAIL)
            return
        best = (min if self.mode == "min" else max)(value for _, value in values)
        logger.info("trial %d: %s=%.6g", trial.number, self.metric, best)
        self.study.tell(trial, best)


class _Signals:
    """Notes SIGTERM and SIGINT while it is entered."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> _Signals:
        self._old = {n: signal.signal(n, self._note) for n in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.number = number

    def __exit__(self, *error: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
