"""Runs the articles' experiments over seeds and writes what came out: claim, figures, verdict.

    python scripts/reproduce.py all                 # docs/articles/*.md, within minutes each on 2 cores
    python scripts/reproduce.py 8870 8896 --seeds 5
    python scripts/reproduce.py 8860 --scale full   # pretrained models and public data

A recipe is scripts/articles/N.yaml: sweeps of `train.py` and scripts, and the findings asked of their
figures. Finished sweeps of the same command are used again unless --fresh is given. The exit code is 1
if a run failed; a claim that does not hold is a result, not a failure.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from kexue_pl.report.reproduction import Reproduction, Rows, rows_of_csv, rows_of_sweep, write_index
from kexue_pl.report.sweeps import collect
from kexue_pl.run.errors import RunError
from kexue_pl.run.files import hold

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "scripts" / "articles"


def recipes() -> dict[str, dict[str, Any]]:
    """Article number -> recipe."""
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in sorted(RECIPES.glob("*.yaml"))
    }


def run(
    command: list[str], folder: Path, done: Any, fresh: bool, how: tuple[str, ...] = ()
) -> None:
    """Run a command that writes below `folder`, unless it has done so already.

    `how` are words that change how it runs and not what comes of it.

    Raises:
        RuntimeError: it failed; the message names the log.
    """
    told = folder / "command.json"
    if not fresh and told.is_file() and json.loads(told.read_text()) == command and done(folder):
        print(f"  already there: {folder}", flush=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print("  " + " ".join(command[1:]), flush=True)
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        code = subprocess.run(
            [*command, *how], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    if code or not done(folder):
        raise RuntimeError(f"exit code {code}, see {folder / 'log.txt'}")
    told.write_text(json.dumps(command))


def completed(folder: Path) -> bool:
    """True if every run of the sweep has ended well."""
    runs = collect(folder)
    return bool(runs) and all(run["status"] == "completed" for run in runs)


def reproduce(number: str, recipe: dict[str, Any], given: argparse.Namespace) -> Reproduction:
    """Run what a recipe asks for and gather its rows."""
    plan = recipe[given.scale]
    home = given.work / given.scale / number
    seeds = ",".join(str(s) for s in range(given.seeds or plan.get("seeds", 3)))
    rows: Rows = []
    commands = []
    for name, overrides in plan.get("sweeps", {}).items():
        words = ["train.py", "-m", *overrides, f"seed={seeds}"]
        commands.append("python " + " ".join(words))
        side = ("sweep=joblib", f"hydra.launcher.n_jobs={given.jobs}") if given.jobs > 1 else ()
        folder = home / name
        run(
            [sys.executable, *words, *given.override, f"paths.sweep_dir={folder}"],
            folder,
            completed,
            given.fresh,
            side,
        )
        rows += rows_of_sweep(folder, name if len(plan["sweeps"]) > 1 else "")
    for name, script in plan.get("scripts", {}).items():
        folder = home / name
        words = [word.replace("{seeds}", str(given.seeds or 3)) for word in script["run"]]
        commands.append("python " + " ".join(w for w in words if w not in ("--out", "{out}")))
        words = [word.replace("{out}", str(folder)) for word in words]
        table = script["rows"]
        run([sys.executable, *words], folder, lambda f, t=table: (f / t).is_file(), given.fresh)
        rows += rows_of_csv(folder / table, label=script["label"], seed=script.get("seed"))
    return Reproduction(number, recipe, given.scale, commands, rows, home)


def main() -> int:
    """Reproduce and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("articles", nargs="+", help="numbers, or all")
    parser.add_argument("--scale", choices=("small", "full"), default="small")
    parser.add_argument("--seeds", type=int, help="number of seeds, else what the recipe says")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "reproduce")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "articles")
    parser.add_argument("--override", nargs="*", default=[], help="more overrides for every sweep")
    parser.add_argument("--fresh", action="store_true", help="run again what is there already")
    given = parser.parse_args()
    given.work = given.work.resolve()
    known = recipes()
    wanted = list(known) if given.articles == ["all"] else given.articles
    if unknown := [n for n in wanted if n not in known]:
        parser.error(f"no recipe for {', '.join(unknown)}; there are {', '.join(known)}")
    failed = []
    for number in wanted:
        print(f"{number}: {known[number]['title']}", flush=True)
        home = given.work / given.scale / number
        try:
            with hold(home, patience=0, setting="--work"):  # a second would remove what this writes
                page = reproduce(number, known[number], given).write(given.docs)
        except (RunError, RuntimeError, KeyError) as error:
            print(f"  failed: {error}", file=sys.stderr)
            failed.append(number)
            continue
        print(f"  {page}", flush=True)
    write_index(given.docs, known)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
