"""Article 8823: the author's table beside ours, accuracy against length.

    python train.py experiment=8823_extrapolation
    python scripts/articles/extrapolation.py outputs/multirun/mlm/SWEEP

Means and standard deviations over the seeds of a sweep, one line a setting; writes extrapolation.md
and one PNG a kind of data into the folder of the sweep.

    python scripts/articles/extrapolation.py --text outputs/8823 --seeds 0 1

Scalings x positions on data=stdlib: trains what is not there yet and tests every cell on the same
hidden tokens; each finished training and cell is kept, so a broken call goes on where it was. All
scalings whose ratio is 1 at the training length share one training a seed, since every training row
has that length; ReRoPE is RoPE in training. Standard errors: of accuracies over the seeds; of
differences over texts of the longest length. --words are overrides of the trainings.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch

from kexue_pl.metrics.mcnemar import McNemar, mcnemar
from kexue_pl.report.lengths import plot_accuracy
from kexue_pl.report.scalings import Outcome, evaluate, load_task, variants
from kexue_pl.report.sweeps import collect

AUTHOR = {
    "author, standard": {64: 43.27, 128: 36.53, 256: 23.02, 512: 15.12, 1024: 11.54},
    "author, entropy-invariant": {64: 43.11, 128: 41.17, 256: 34.04, 512: 20.15, 1024: 13.58},
}
"""Published by the author: RoFormer-small, trained at 64; no seeds, corpus or step counts given."""

SCALINGS = ("standard", "entropy_invariant", "ssmax", "sqrt_log", "calibrated")
POSITIONS = ("rope", "rerope")
OWN_TRAINING = ("ssmax",)
"""Scalings with learned values; the others are the standard one at the training length."""

ROOT = Path(__file__).resolve().parents[2]

Cell = dict[int, Outcome]
Cells = dict[tuple[str, str], list[Cell]]
Curves = dict[str, dict[str, list[dict[int, float]]]]


def gather(folder: Path) -> Curves:
    """Data -> scaling (and positions) -> accuracy by length, one mapping a finished run."""
    curves: Curves = defaultdict(lambda: defaultdict(list))
    for run in collect(folder):
        found = {
            int(name.partition("@")[2]): value
            for name, value in run["metrics"].items()
            if name.startswith("test/accuracy@")
        }
        if run["status"] == "completed" and found:
            settings = run["settings"]
            parts = [
                str(settings[f"{part}._target_"]).rpartition(".")[2]
                for part in ("data", "attention")
            ]
            if settings.get("model.positions"):
                parts[1] += f", {settings['model.positions']}"
            curves[parts[0]][parts[1]].append(found)
    return curves


def table(curves: Curves) -> str:
    """The author's lines and ours, accuracy in percent."""
    lengths = sorted({n for kinds in curves.values() for runs in kinds.values() for n in runs[0]})
    lines = [
        "| accuracy, % | seeds | " + " | ".join(map(str, lengths)) + " |",
        "|---" * (len(lengths) + 2) + "|",
    ]
    for name, values in AUTHOR.items():
        cells = [f"{values[n]:.2f}" if n in values else "" for n in lengths]
        lines.append(f"| {name} | ? | " + " | ".join(cells) + " |")
    for data, kinds in curves.items():
        for kind, runs in kinds.items():
            cells = []
            for n in lengths:
                values = [100 * run[n] for run in runs if n in run]
                spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
                cells.append(f"{mean(values):.2f}{spread}" if values else "")
            lines.append(f"| {data}, {kind} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(folder: Path) -> int:
    """Print and write; the exit code."""
    curves = gather(folder)
    if not curves:
        print(f"error: {folder}: no finished runs of task=mlm below it", file=sys.stderr)
        return 1
    text = table(curves)
    (folder / "extrapolation.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    for data, kinds in curves.items():
        print(plot_accuracy(kinds, folder / f"extrapolation_{data.lower()}.png"))
    return 0


def trained(folder: Path, scaling: str, seed: int, words: list[str]) -> Path:
    """The checkpoint that a scaling is tested on, trained if it is not there."""
    attention = scaling if scaling in OWN_TRAINING else "standard"
    run = (folder / "runs" / f"{attention}-{seed}").resolve()
    summary = run / "summary.json"
    if not summary.is_file() or '"completed"' not in summary.read_text(encoding="utf-8"):
        command = [
            sys.executable, str(ROOT / "train.py"), "task=mlm", "data=stdlib", "test=false",
            "threads=1", f"attention={attention}", f"seed={seed}", f"paths.output_dir={run}", *words,
        ]  # fmt: skip
        subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    return run / "checkpoints" / "best.ckpt"


def cell(folder: Path, scaling: str, positions: str, seed: int, words: list[str]) -> Cell:
    """Hits, texts and entropy of one scaling under one kind of positions, tested if need be."""
    path = folder / "cells" / f"{scaling}-{positions}-{seed}.npz"
    if not path.is_file():
        checkpoint = trained(folder, scaling, seed, words)
        config, data, task = load_task(checkpoint)
        learned = scaling in OWN_TRAINING
        (variant,) = variants(config, ["standard" if learned else scaling], [positions])
        if learned:
            variant = replace(variant, scaling=None)
        found = evaluate(task, data, variant, entropy_batches=4)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            f"{name}@{n}": np.asarray(getattr(outcome, name))
            for n, outcome in found.items()
            for name in ("hits", "clusters", "entropy")
        }
        draft = path.with_suffix(".part.npz")
        np.savez(draft, **arrays)
        draft.replace(path)
    with np.load(path) as stored:
        lengths = sorted(int(name.partition("@")[2]) for name in stored if name.startswith("hits"))
        return {
            n: Outcome(
                torch.from_numpy(stored[f"hits@{n}"]),
                torch.from_numpy(stored[f"clusters@{n}"]),
                float(stored[f"entropy@{n}"]),
            )
            for n in lengths
        }


def accuracies(cells: Cells) -> str:
    """Mean accuracy ± its standard error over seeds, below the author's lines."""
    lengths = sorted(next(iter(cells.values()))[0])
    lines = _head("accuracy, %", lengths)
    for name, values in AUTHOR.items():
        lines.append(_line(name, [f"{values[n]:.2f}" if n in values else "" for n in lengths]))
    for (scaling, positions), seeds in cells.items():
        texts = []
        for n in lengths:
            values = [100 * float(seed[n].hits.double().mean()) for seed in seeds]
            error = f" ± {stdev(values) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
            texts.append(f"{mean(values):.2f}{error}")
        lines.append(_line(f"{scaling}, {positions}", texts))
    return "\n".join(lines)


def differences(cells: Cells) -> str:
    """Accuracy minus that of the standard scaling, same seeds and tokens, ± clustered error."""
    lengths = sorted(next(iter(cells.values()))[0])
    lines = _head("minus standard, points", lengths)
    for (scaling, positions), seeds in cells.items():
        if scaling != "standard":
            results = [_paired(cells["standard", positions], seeds, n) for n in lengths]
            lines.append(_line(f"{scaling}, {positions}", [_points(result) for result in results]))
    return "\n".join(lines)


def entropies(cells: Cells) -> str:
    """Mean entropy at each length, and its growth beside that of the standard scaling."""
    lengths = sorted(next(iter(cells.values()))[0])
    lines = _head("entropy, nats", [*lengths, "growth", "of standard's"])
    growth = {}
    for key, seeds in cells.items():
        means = [mean(seed[n].entropy for seed in seeds) for n in lengths]
        growth[key] = means[-1] - means[0]
        share = growth[key] / growth["standard", key[1]]
        texts = [*(f"{value:.2f}" for value in means), f"{growth[key]:.2f}", f"{share:.2f}"]
        lines.append(_line(", ".join(key), texts))
    return "\n".join(lines)


def _paired(first: list[Cell], second: list[Cell], n: int) -> McNemar:
    # Seeds share the text, so a text with all its seeds is one observation.
    hits = [torch.cat([seed[n].hits for seed in seeds]) for seeds in (first, second)]
    return mcnemar(hits[0], hits[1], torch.cat([seed[n].clusters for seed in second]))


def _points(result: McNemar) -> str:
    assert result.cluster_error is not None
    return f"{100 * result.difference:+.2f} ± {100 * result.cluster_error:.2f}"


def _head(title: str, columns: Sequence[object]) -> list[str]:
    return [_line(title, list(map(str, columns))), "|---" * (len(columns) + 1) + "|"]


def _line(name: str, texts: list[str]) -> str:
    return f"| {name} | " + " | ".join(texts) + " |"


def text(folder: Path, seeds: list[int], words: list[str]) -> int:
    """Make all cells, print the three tables and the gain of ReRoPE; the exit code."""
    cells: Cells = {}
    for positions in POSITIONS:
        for scaling in SCALINGS:
            found = [cell(folder, scaling, positions, seed, words) for seed in seeds]
            cells[scaling, positions] = found
    longest = max(cells["standard", "rope"][0])
    gain = _paired(cells["standard", "rope"], cells["standard", "rerope"], longest)
    parts = [
        accuracies(cells),
        differences(cells),
        entropies(cells),
        f"ReRoPE minus RoPE at {longest}, standard: {_points(gain)} points; seeds {seeds}",
    ]
    (folder / "table.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print("\n\n".join(parts))
    curves = {
        ", ".join(key): [
            {n: float(outcome.hits.double().mean()) for n, outcome in seed.items()}
            for seed in found
        ]
        for key, found in cells.items()
    }
    print(plot_accuracy(curves, folder / "table.png"))
    return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The table of article 8823 with ours beside it.")
    parser.add_argument("sweep", type=Path, nargs="?", help="folder of a sweep of task=mlm")
    parser.add_argument("--text", type=Path, help="folder for scalings x positions on data=stdlib")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--words", nargs="+", default=[], help="overrides of the trainings")
    parsed = parser.parse_args(arguments)
    if (parsed.sweep is None) == (parsed.text is None):
        parser.error("give the folder of a sweep, or --text FOLDER")
    return parsed


if __name__ == "__main__":
    given = parse(sys.argv[1:])
    if given.text is None:
        sys.exit(main(given.sweep))
    sys.exit(text(given.text, given.seeds, given.words))
