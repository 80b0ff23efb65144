"""Article 8823: the author's table beside that of a sweep, with a plot of accuracy against length.

    python train.py experiment=8823_extrapolation
    python scripts/articles/extrapolation.py outputs/multirun/mlm/SWEEP

Means and standard deviations over seeds, one line a setting; writes extrapolation.md and one PNG a
kind of data into the folder of the sweep.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from kexue_pl.report.lengths import plot_accuracy
from kexue_pl.report.sweeps import collect

AUTHOR = {
    "author, standard": {64: 43.27, 128: 36.53, 256: 23.02, 512: 15.12, 1024: 11.54},
    "author, entropy-invariant": {64: 43.11, 128: 41.17, 256: 34.04, 512: 20.15, 1024: 13.58},
}
"""Published by the author: RoFormer-small, trained at 64; no seeds, corpus or step counts given."""

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


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/articles/extrapolation.py MULTIRUN_DIR")
    sys.exit(main(Path(sys.argv[1])))
