"""The command line of a search: `python scripts/tune.py task=matching 'optimizer.lr=interval(1e-4,1e-2)'`."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

from kexue_pl.run.config import config_dir, register
from kexue_pl.run.errors import ConfigError, Interrupted, RunError
from kexue_pl.run.files import write_text
from kexue_pl.run.log import set_up
from kexue_pl.run.overrides import check_overrides, quote, refuse_secrets
from kexue_pl.tune.space import Space, parse, read_space
from kexue_pl.tune.study import Tuner

__all__ = ["main"]

USAGE = """python scripts/tune.py --study DIR [--trials N] [KEY=VALUE ...] KEY=SPACE ...

  KEY=interval(a,b)            a real number; tag(log,interval(a,b)): on a log scale
  KEY=int(interval(a,b))       a whole number
  KEY=range(a,b,step=c)        steps from a, without b
  KEY=choice(x,y) or KEY=x,y   one of several; groups too: balancer=equal,gradnorm

The same command takes a study up again where it stopped; a larger --trials extends it."""


def main(arguments: list[str] | None = None) -> int:
    """Run or go on with a study; the exit code."""
    parser = argparse.ArgumentParser(usage=USAGE)
    parser.add_argument("words", nargs="*", help="overrides and spaces, as for train.py")
    parser.add_argument("--study", type=Path, required=True, help="folder of the study")
    parser.add_argument("--trials", type=int, default=20, help="trials of the whole study")
    parser.add_argument("--jobs", type=int, default=1, help="trials at once")
    parser.add_argument("--space", type=Path, help="YAML file that maps keys to spaces")
    parser.add_argument("--pruner", choices=("median", "hyperband", "none"), default="median")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    args = parser.parse_intermixed_args(arguments)
    try:
        tuner = _tuner(args)
        tuner.run(args.trials, args.jobs)
        _tell(tuner)
    except Interrupted as stop:
        print(f"interrupted: {stop}; the same command goes on", file=sys.stderr)
        return stop.code
    except RunError as error:
        print("\n".join(f"error: {error}".splitlines()[:6]), file=sys.stderr)
        return 1
    return 0


def _tuner(args: argparse.Namespace) -> Tuner:
    register()
    words = [quote(word) for word in args.words]
    words += read_space(args.space) if args.space else []
    refuse_secrets(words)
    spaces = [word for word in words if parse(word).is_sweep_override()]
    fixed = [word for word in words if word not in spaces]
    taken = ("paths.output_dir", "resume", "test")
    if wrong := [word for word in words if word.partition("=")[0] in taken]:
        raise ConfigError([f"{wrong[0]}: the search sets this itself"])
    check_overrides([*fixed, *spaces, "-m"])
    space = Space(spaces)
    monitor = _monitor(fixed)
    args.study.mkdir(parents=True, exist_ok=True)
    set_up(args.study)
    return Tuner(
        args.study.absolute(),
        space,
        fixed,
        metric=monitor[0],
        mode=monitor[1],
        pruner=args.pruner,
        seed=args.seed,
    )


def _monitor(fixed: list[str]) -> tuple[str, str]:
    """The metric that the runs choose their checkpoints by, and its direction."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=fixed)
    return str(config.monitor.name), str(config.monitor.mode)


def _tell(tuner: Tuner) -> None:
    """Print and write the table of all trials, best first, and the command that trains the best."""
    from rich.console import Console
    from rich.table import Table

    trials = sorted(tuner.study.get_trials(deepcopy=False), key=lambda t: _rank(t, tuner.mode))
    columns = ["trial", tuner.metric, "state", *tuner.space.axes]
    rows = [
        [str(t.number), "" if t.value is None else f"{t.value:.6g}", t.state.name.lower()]
        + [f"{t.params[key]:.6g}" if isinstance(t.params[key], float) else str(t.params[key])
           for key in tuner.space.axes]
        for t in trials
    ]  # fmt: skip
    table = Table(*columns, title=str(tuner.folder))
    for row in rows[:20]:
        table.add_row(*row)
    Console().print(table)
    with open(tuner.folder / "trials.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    if trials and trials[0].value is not None:
        found = [f"{key}={value}" for key, value in trials[0].params.items()]
        best = " ".join(f"'{w}'" for w in [*tuner.fixed, *found])
        write_text(tuner.folder / "best.txt", f"python train.py {best}\n")
        print(f"python train.py {best}")


def _rank(trial: Any, mode: str) -> tuple[bool, float]:
    value = trial.value
    return (value is None, 0.0 if value is None else value if mode == "min" else -value)
