"""Article 8860 on real pairs: feature (bi), late and full interaction under four losses, from scratch.

    python scripts/articles/matching.py FOLDER [--out outputs/matching] [--sets LCQMC BQ ATEC STS-B]
        [--interactions bi late cross] [--losses CoSENT ...] [--seeds 0 1 2] [--print]

FOLDER holds SET.valid.data and SET.test.data (STS-B: .train.data and .valid.data), text, text, label by
tabs. Training takes nine tenths of the first file; the last tenth, whole connected components of
sentences, gives the threshold and chooses rate and scale of each cell with the first seed, all cells from
grids of equal size; the second file is only reported. Pairs that stand in both files are left out of
training, and batches hold pairs of like length, so that no ranking can be earned by length.

Every finished training is kept in OUT, so a stopped call goes on where it was; --print only prints.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matching_cells import SETS, Cell, load, ranking, run

from kexue_pl.data.files import Files

INTERACTIONS = ("bi", "late", "cross")
LOSSES = ("CoSENT", "cosine MSE", "SBERT softmax", "InfoNCE")
SCALED = ("CoSENT", "InfoNCE")  # these have a scale, unless logits are compared
SAMPLES = 200
RATES = {
    "bi": (1e-2, 3e-2),
    "late": (3e-2, 1e-1),
    "cross": (3e-3, 1e-2),
}
SCALES = (5.0, 20.0)
FOUR = {"bi": (5e-3, 1e-2, 3e-2, 1e-1), "late": (1e-2, 3e-2, 1e-1, 2e-1)}


def grid(name: str, how: str, loss: str, seed: int) -> list[Cell]:
    """The settings among which the held-out rows choose: four, or two of the slow interaction."""
    if how == "cross":
        pairs = [(rate, 1.0) for rate in RATES[how]]
    elif loss in SCALED:
        pairs = [(rate, scale) for rate in RATES[how] for scale in SCALES]
    else:
        pairs = [(rate, 1.0) for rate in FOUR[how]]
    return [Cell(name, how, loss, rate, scale, seed) for rate, scale in pairs]


class Results:
    """All trainings of the chosen sets, as far as they are done.

    Args:
        folder: of the data.
        out: of the results.
        seeds: the first one chooses the settings.
        only_print: train nothing.
    """

    def __init__(self, folder: Path, out: Path, seeds: list[int], only_print: bool) -> None:
        self.folder, self.out, self.seeds, self.only_print = folder, out, seeds, only_print
        self.data: dict[str, Files] = {}
        self.found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}

    def add(self, name: str, how: str, loss: str) -> None:
        """Train what is missing of a cell of the table; skip it where nothing may be trained."""
        if name not in self.data:
            self.data[name] = load(self.folder, name)
        data, cells = self.data[name], grid(name, how, loss, self.seeds[0])
        if self.only_print and not all(cell.file(self.out).is_file() for cell in cells):
            return
        tried = [run(cell, data, self.out) for cell in cells]
        best = max(range(len(cells)), key=lambda number: tried[number]["held_spearman"])
        runs = [tried[best]]
        for seed in self.seeds[1:]:
            cell = replace(cells[best], seed=seed)
            if not self.only_print or cell.file(self.out).is_file():
                runs.append(run(cell, data, self.out))
        self.found[name, how, loss] = [one | {"cell": cells[best]} for one in runs]
        if not self.only_print:
            print(self.row(name, how, loss), flush=True)

    def row(self, name: str, how: str, loss: str) -> str:
        """A line of the table."""
        runs = self.found[name, how, loss]
        cell = runs[0]["cell"]
        cost, seconds = (np.mean([one[key] for one in runs]) for key in ("cost", "seconds"))
        words = [name, how, loss, f"{cell.rate:g}"]
        words += ["–" if cell.scale == 1 else f"{cell.scale:g}"]
        words += [shown(runs, key) for key in ("held_spearman", "spearman", "accuracy")]
        return f"| {' | '.join(words)} | {cost:.0f} | {seconds:.0f} | {len(runs)} |"

    def table(self) -> str:
        """The whole table."""
        head = (
            "| set | interaction | loss | rate | scale | held-out Spearman | Spearman | accuracy |"
        )
        head += " µs a pair | training CPU s | seeds |"
        return "\n".join([head, "|" + "---|" * 11, *(self.row(*key) for key in self.found)])

    def best(self, name: str, how: str) -> str | None:
        """The loss that the held-out rows prefer for an interaction."""
        seen = {key[2]: runs for key, runs in self.found.items() if key[:2] == (name, how)}
        return max(seen, key=lambda loss: seen[loss][0]["held_spearman"]) if seen else None

    def verdict(self, name: str, one: tuple[str, str], two: tuple[str, str]) -> str | None:
        """Whether one (interaction, loss) is above the other, with the error of their difference."""
        first, second = (self.found.get((name, *key)) for key in (one, two))
        if first is None or second is None or one == two:
            return None
        gap, error = difference(
            [r["test"] for r in first], [r["test"] for r in second], self.data[name].test_set.labels
        )
        word = "a tie" if abs(gap) < 2 * error else ("holds" if gap > 0 else "the reverse holds")
        return f"{name}: {' '.join(one)} minus {' '.join(two)} = {gap:+.4f} ± {error:.4f}: {word}"

    def verdicts(self) -> str:
        """The claims of the article, set by set."""
        lines = []
        for title, pairs in {
            "Interaction above feature (each with the loss that its held-out rows prefer)": [
                (("cross", None), ("bi", None)),
                (("late", None), ("bi", None)),
            ],
            "CoSENT above Sentence-BERT": [(("bi", "CoSENT"), ("bi", "SBERT softmax"))],
            "CoSENT above the regression of the cosine": [(("bi", "CoSENT"), ("bi", "cosine MSE"))],
            "CoSENT above InfoNCE": [(("bi", "CoSENT"), ("bi", "InfoNCE"))],
        }.items():
            lines.append(f"\n{title}:\n")
            for name in self.data:
                for pair in pairs:
                    sides = [(how, loss or self.best(name, how) or "") for how, loss in pair]
                    said = self.verdict(name, sides[0], sides[1])
                    lines += [f"- {said}"] if said else []
        return "\n".join(lines)


def shown(runs: list[dict[str, Any]], key: str) -> str:
    """Mean and standard error over seeds."""
    values = [float(one[key]) for one in runs if key in one]
    if not values:
        return "–"
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{np.mean(values):.4f} ± {error:.4f}"


def difference(one: list[Any], two: list[Any], labels: Any) -> tuple[float, float]:
    """Difference of mean Spearman over seeds, and its standard error.

    The error adds what the rows contribute (a paired bootstrap of the means over seeds) and what
    the seeds contribute.
    """

    def gap(rows: Any) -> float:
        means = [np.mean([ranking(s[rows], labels[rows]) for s in side]) for side in (one, two)]
        return float(means[0] - means[1])

    rng, n = np.random.default_rng(0), len(labels)
    rows = np.std([gap(rng.integers(0, n, n)) for _ in range(SAMPLES)], ddof=1)
    whole = [[ranking(s, labels) for s in side] for side in (one, two)]
    seeds = sum(np.var(side, ddof=1) / len(side) for side in whole if len(side) > 1)
    return gap(np.arange(n)), float((rows**2 + seeds) ** 0.5)


def main() -> None:
    """Train what is missing, print the table and the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/matching"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--interactions", nargs="+", choices=INTERACTIONS, default=INTERACTIONS)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=LOSSES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--print", action="store_true", dest="only_print", help="train nothing")
    given = parser.parse_args()
    logging.getLogger("kexue_pl").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    results = Results(given.folder, given.out, given.seeds, given.only_print)
    for how in given.interactions:
        for name in given.sets:
            for loss in given.losses:
                results.add(name, how, loss)
    spent = sum(float(np.load(path)["seconds"]) for path in given.out.glob("*.npz"))
    print(results.table(), results.verdicts(), sep="\n")
    print(f"\nAll trainings together, those of the choice included: {spent / 60:.0f} CPU minutes.")


if __name__ == "__main__":
    main()
