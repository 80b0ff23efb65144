"""Write a synthetic knowledge base as TSV, with the sizes and shapes of the real KgCLUE base.

    python scripts/make_synthetic_kb.py OUT.tsv [--scale 0.05] [--seed 0]

At scale 1: 20,559,652 triples, 3,121,457 names, 245,838 relations. Characters follow Zipf's law,
names come in families that share their beginnings, 27 % of the names carry a meaning in brackets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRIPLES, NAMES, RELATIONS = 20_559_652, 3_121_457, 245_838
ALPHABET = 7000
BLOCK = 1 << 20


def words(
    rng: np.random.Generator, count: int, mean: float, low: int, high: int, shared: int
) -> list[str]:
    """``count`` strings of mean length ``mean``; up to ``shared`` first characters are copied."""
    zipf = 1 / np.arange(1, ALPHABET + 1) ** 0.9
    cdf = np.cumsum(zipf / zipf.sum())
    length = (low + rng.gamma(1.6, (mean - low) / 1.6, count)).astype(np.int64).clip(low, high)
    offsets = np.zeros(count + 1, np.int64)
    np.cumsum(length, out=offsets[1:])
    flat = np.searchsorted(cdf, rng.random(offsets[-1])).clip(0, ALPHABET - 1).astype(np.uint32)
    source = (count * rng.random(count) ** 3).astype(np.int64)
    head = np.minimum(np.minimum(length, length[source]), rng.integers(0, shared + 1, count))
    head = np.where(source < np.arange(count), head, 0)
    for depth in range(shared):
        at = np.flatnonzero(head > depth)
        flat[offsets[at] + depth] = flat[offsets[source[at]] + depth]
    text = (flat + 0x4E00).astype("<u4").tobytes().decode("utf-32-le")
    return [text[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def columns(
    rng: np.random.Generator, names: int, relations: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Name and relation of each row: log-normal rows a name, Zipf relations."""
    weight = rng.lognormal(0, 0.7, names)
    name = np.repeat(np.arange(names), rng.multinomial(rows, weight / weight.sum()))
    frequency = 1 / np.arange(1, relations + 1) ** 1.15
    pick = np.searchsorted(np.cumsum(frequency / frequency.sum()), rng.random(rows))
    return name, rng.permutation(relations)[pick.clip(0, relations - 1)]


def write(path: Path, *, scale: float, seed: int = 0) -> int:
    """Write the base; the number of triples."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(seed)
    names, rows = max(10, int(NAMES * scale)), max(20, int(TRIPLES * scale))
    relations = max(5, int(RELATIONS * min(1, 5 * scale)))
    meanings = words(rng, max(10, names // 4), 9.9, 2, 33, 4)
    subjects = words(rng, names, 5.3, 1, 44, 3)
    marked = np.flatnonzero(rng.random(names) < 0.27).tolist()
    for i, m in zip(marked, rng.integers(0, len(meanings), len(marked)).tolist(), strict=True):
        subjects[i] = f"{subjects[i]}（{meanings[m]}）"
    pools = [pa.array(subjects), pa.array(words(rng, relations, 4.5, 1, 12, 2))]
    name, relation = columns(rng, names, relations, rows)
    order = rng.permutation(rows)
    schema = pa.schema([(c, pa.string()) for c in ("subject", "predicate", "object")])
    options = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with csv.CSVWriter(path, schema, write_options=options) as out:
        for start in range(0, rows, BLOCK):
            at = order[start : start + BLOCK]
            values = pa.array(words(rng, len(at), 7.6, 1, 40, 0))
            picked = [p.take(pa.array(x[at])) for p, x in zip(pools, (name, relation), strict=True)]
            out.write_batch(pa.record_batch([*picked, values], schema=schema))
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=0.05, help="1.0: size of the real base")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if not 0 < given.scale <= 4:
        parser.error(f"--scale {given.scale}: between 0 and 4")
    rows = write(given.out, scale=given.scale, seed=given.seed)
    print(f"{given.out}: {rows:,} triples, {given.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
