"""Article 8802 on real questions: the parts and their sum, and every switch of the search, per base.

    for SEED in 0 1 2: KEXUE_DATA=FOLDER python train.py experiment=8802_kgclue threads=1 seed=SEED \
        test=false paths.output_dir=runs/SEED            # 6 minutes of one core each
    KEXUE_DATA=FOLDER python scripts/articles/kgclue.py runs/0 runs/1 runs/2 --bases rich hard

One trained model a seed answers from every base; nothing is trained again. What was measured is kept in the
folder of its run (article_BASE.json) and not measured twice with the same numbers of questions and beams.
Means and standard errors over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

Figures = dict[str, dict[str, float]]
SEGMENTS = ("em_s", "em_p", "em_o")


def restored(run: Path, base: str) -> Any:
    """The task of a run with another base around the same questions."""
    from kexue_pl.run.checkpoint_io import read
    from kexue_pl.run.state import RunState
    from kexue_pl.run.train import assemble

    stored = read(run / "checkpoints" / "last.ckpt")  # the end of the schedule
    facts = stored["callbacks"][RunState.__qualname__]["facts"]
    facts["config"]["data"]["base"] = base
    _, task = assemble(facts["config"], facts)
    task.on_load_checkpoint(stored)
    task.load_state_dict(stored["state_dict"])
    return task.eval()


def score(task: Any, method: str, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Official figures of one method on some questions, errors by segment, seconds a question."""
    from kexue_pl.retrieval.official import official_scores
    from kexue_pl.tasks.kgclue import gold
    from kexue_pl.tasks.kgclue_answers import Found

    start, best = time.process_time(), []
    for at in range(0, len(rows), 64):
        texts = [row["question"] for row in rows[at : at + 64]]
        best += [found[0] if found else Found() for found in task.answerer().answer(method, texts)]
    spent = time.process_time() - start
    right = [gold(row) for row in rows]
    out = official_scores([found.answer for found in best], right)
    out = {name: out[name] for name in ("score", *SEGMENTS)}
    out["keys"] = 100 * sum(found.is_key for found in best) / len(best)
    return out | {"ms": 1e3 * spent / len(rows)}


def methods(task: Any, rows: list[dict[str, Any]]) -> Figures:
    """Every method beside the others; the weights that were tuned."""
    answerer = task.answerer()
    found = {name: score(task, name, rows) for name in answerer.methods()}
    for name in ("combined", "less_prior"):
        if name in found:
            found[name] |= answerer.weights(name)._asdict()
    return found


def switches(task: Any, rows: list[dict[str, Any]], beams: Iterable[int]) -> Figures:
    """The model alone: normalised or not, lookahead or not, few or many beams."""
    answerer, given = task.answerer(), task.answerer().settings
    found = {}
    for renormalise in (True, False):
        for lookahead in (True, False):
            for width in beams:
                answerer.settings = dataclasses.replace(
                    given, beams=width, renormalise=renormalise, lookahead=lookahead
                )
                name = f"{'normalised' if renormalise else 'as it is'}, "
                name += f"{'lookahead' if lookahead else 'none'}, {width}"
                found[name] = score(task, "seq2seq", rows)
    answerer.settings = given
    return found


def measured(run: Path, base: str, given: argparse.Namespace) -> dict[str, Figures]:
    """What this script prints of one run on one base."""
    path = run / f"article_{base}.json"
    asked = {"questions": given.questions, "grid": given.grid, "beams": given.beams}
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if known.get("asked") == asked:
        found: dict[str, Figures] = known["figures"]
        return found
    task = restored(run, base)
    rows = list(task.data.test_set)
    out = {"methods": methods(task, rows[: given.questions])}
    if given.grid:
        out["switches"] = switches(task, rows[: given.grid], given.beams)
    path.write_text(json.dumps({"asked": asked, "figures": out}, indent=1), encoding="utf-8")
    return out


def cell(values: list[float]) -> str:
    """Mean and standard error over seeds."""
    spread = f" ± {stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"


def table(runs: list[Figures], columns: tuple[str, ...]) -> str:
    """One line a method or setting."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in runs[0]:
        cells = [
            cell([run[name][c] for run in runs]) if c in runs[0][name] else "" for c in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gains(runs: list[Figures], switched: list[Figures]) -> str:
    """What the constraint, the normalisation and the lookahead are worth in score, paired by seed."""
    pairs = [
        (f"{name} less unconstrained", [(run[name], run["unconstrained"]) for run in runs])
        for name in ("seq2seq", "less_prior", "combined")
        if name in runs[0]
    ]
    for name in switched[0] if switched else ():
        for on, off in (("normalised", "as it is"), ("lookahead", "none")):
            if on in name.split(", "):
                other = name.replace(on, off)
                pairs.append((f"{name} less {off}", [(run[name], run[other]) for run in switched]))
    lines = ["| | score |", "|---|---|"]
    for name, found in pairs:
        lines.append(f"| {name} | {cell([a['score'] - b['score'] for a, b in found])} |")
    return "\n".join(lines)


def learning(run: Path) -> str:
    """Validation by epoch: the model alone, on the base it was trained with."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/score")]
    cells = [
        f"| {run.name} | {int(row['step']) + 1} | {float(row['val/loss']):.2f} | "
        f"{float(row['val/score']):.1f} | {float(row['val/em_s']):.1f} |"
        for row in rows
    ]
    return "\n".join(cells)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, one a seed")
    parser.add_argument(
        "--bases", nargs="+", default=["rich", "hard", "rich_unseen", "hard_unseen"]
    )
    parser.add_argument("--questions", type=int, default=2000, help="for the methods")
    parser.add_argument("--grid", type=int, default=500, help="for the switches; 0 for none")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 3, 5])
    given = parser.parse_args()
    for base in given.bases:
        found = [measured(run, base, given) for run in given.runs]
        count = f"{len(found)} seeds" if len(found) > 1 else "one seed"
        print(f"\n{base}, {given.questions} questions, {count}\n")
        columns = ("score", *SEGMENTS, "keys", "ms", "lexical", "model", "prior")
        print(table([f["methods"] for f in found], columns), flush=True)
        if "switches" in found[0]:
            print(f"\n{base}, the model alone, {given.grid} questions\n")
            print(table([f["switches"] for f in found], ("score", *SEGMENTS, "ms")), flush=True)
        switched = [f["switches"] for f in found if "switches" in f]
        print(f"\n{base}, differences\n\n{gains([f['methods'] for f in found], switched)}")
    print("\n| run | step | val/loss | val/score | val/em_s |\n|---|---|---|---|---|")
    print("\n".join(learning(run) for run in given.runs))


if __name__ == "__main__":
    main()
