"""Compare attention scalings on one trained checkpoint of task=mlm, on the same hidden tokens.

    python scripts/compare_scalings.py RUN/checkpoints/best.ckpt --scalings standard,entropy_invariant

Scalings whose base is the training length equal the standard one there, so a single checkpoint holds
all columns, and differences are free of the noise of training. Prints accuracies with the difference
to the first variant, its error (texts of the longest length resampled as wholes), and the exact p of
McNemar's test; writes the rows as CSV and a plot beside the checkpoint's run.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare attention scalings on one checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="best.ckpt or last.ckpt of a run of task=mlm")
    parser.add_argument(
        "--scalings",
        default="standard,entropy_invariant",
        help="options of attention=, by commas; settings by ;, as in entropy_invariant:strength=0.5",
    )
    parser.add_argument("--positions", default="", help="rope, ntk, rerope, alibi, none; by commas")
    parser.add_argument("--output", type=Path, help="folder; by default RUN/scalings")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Compare, print and write; the exit code."""
    from kexue_pl.report.lengths import plot_accuracy
    from kexue_pl.report.scalings import compare, load_task, markdown, variants
    from kexue_pl.run.checkpoint_io import CheckpointCorruptError
    from kexue_pl.run.errors import RunError

    args = parse(arguments)
    folder = args.output or args.checkpoint.resolve().parent.parent / "scalings"
    try:
        config, data, task = load_task(args.checkpoint)
        names = [name for name in args.scalings.split(",") if name]
        places = [name for name in args.positions.split(",") if name]
        rows = compare(task, data, variants(config, names, places))
    except (ValueError, OSError, RunError, CheckpointCorruptError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "scalings.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (folder / "scalings.md").write_text(markdown(rows) + "\n", encoding="utf-8")
    curves: dict[str, list[dict[int, float]]] = {}
    for row in rows:
        curves.setdefault(row["variant"], [{}])[0][row["length"]] = row["accuracy"]
    plot_accuracy(curves, folder / "scalings.png")
    print(markdown(rows))
    for row in rows:
        if row["variant"] != rows[0]["variant"]:
            print(f"{row['variant']} at {row['length']}: p = {row['p']:.3g}")
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
