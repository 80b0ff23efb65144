"""What is thrown at the readers and at the prefix index, and what may come back.

Each function takes one generated input; it fails if anything but a typed error comes out, or if
rows change on the way. ``test_fuzz`` runs a few hundred, ``scripts/bench/fuzz.py`` ten thousand.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kexue_pl.reading import DataError, Field, RowPolicy, iter_table, read_table
from kexue_pl.retrieval import IndexFileError, PrefixIndex
from kexue_pl.retrieval.key_files import read_blocks

FIELDS = {"text1": Field(), "text2": Field(), "label": Field("label", required=False)}
NAMES = ("text1", "text2", "label")
SEP = 2

CHARACTERS = st.characters(codec="utf-8")
TOKENS = [
    *"\t,\"\n\r\0{}[]: \ufeff\x85\u2028甲", "\r\n", "null", "NaN", "1e999", "\\ud83d",
    *NAMES, *(f'"{name}"' for name in NAMES),
]  # fmt: skip
SOUP = st.lists(
    st.one_of(st.sampled_from(TOKENS), st.text(CHARACTERS, max_size=4)), max_size=40
).map(lambda parts: "".join(parts).encode())
VALUES = st.one_of(st.text(CHARACTERS, max_size=6), st.integers(), st.floats(), st.none(),
                   st.booleans(), st.lists(st.integers(), max_size=2))  # fmt: skip
OBJECTS = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), VALUES, max_size=5
)
LINES = st.lists(OBJECTS, min_size=1, max_size=6).map(
    lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(
        "utf-8", "surrogatepass"
    )
)


ROWS = st.lists(
    st.tuples(*[st.text(CHARACTERS, min_size=1, max_size=8)] * 2, st.integers(-9, 9)),
    min_size=1, max_size=8,
)  # fmt: skip
WORDS = st.text("abc甲乙 '", min_size=1, max_size=5)
TABLES = st.tuples(
    st.lists(st.tuples(WORDS, WORDS, st.integers(0, 9)), min_size=1, max_size=6),
    st.sampled_from("\t,"),
).map(lambda case: "".join(case[1].join(map(str, row)) + "\n" for row in case[0]).encode())


@st.composite
def damaged(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with some flipped, cut out or put in."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["flip", "cut", "put", "end"]))
        if what == "flip" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del data[at : at + draw(st.integers(1, 8))]
        elif what == "put":
            data[at:at] = draw(st.binary(max_size=8))
        else:
            del data[at:]
    return bytes(data)


FILES = st.tuples(
    st.sampled_from(["tsv", "csv", "jsonl", "json", "txt"]),
    damaged(st.one_of(st.binary(max_size=64), SOUP, LINES, TABLES, TABLES)),
    st.booleans(),
)


def check_reading(case: tuple[str, bytes, bool]) -> bool:
    """Any bytes under any ending: rows or a DataError; whole and one by one give the same.

    With on_error=skip, every line that holds text is a row, a header, or is counted as bad.
    """
    ending, data, skip = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        path.write_bytes(data)
        outcomes = []
        for read in (read_table, iter_table):
            policy = RowPolicy("skip" if skip else "raise", max_bad=1000)
            try:
                found = [
                    row if read is read_table else row.values
                    for row in read(path, FIELDS, policy=policy)
                ]  # type: ignore[operator]
            except DataError as error:
                assert str(path) in str(error)
                outcomes.append(None)
                continue
            rows = [{k: v for k, v in row.items() if v is not None} for row in found]
            outcomes.append((rows, len(policy.bad)))
        assert repr(outcomes[0]) == repr(outcomes[1])
        if outcomes[0] is not None and ending in ("tsv", "txt"):
            rows, bad = outcomes[0]
            lines = [line for line in data.split(b"\n") if line.removesuffix(b"\r").strip()]
            assert len(lines) - len(rows) - bad in (0, 1)  # a header is one line more
        for columns in (NAMES, NAMES[:1]):
            try:
                blocks = list(read_blocks(path, columns, policy=RowPolicy("skip", max_bad=1000)))
                assert all(len(block) == len(columns) for block in blocks)
            except DataError as error:
                assert str(path) in str(error)
        return outcomes[0] is not None


def check_round_trip(rows: list[tuple[str, str, int]]) -> bool:
    """Rows written by the libraries of the formats come back as they were, or are refused."""
    import csv

    import pyarrow as pa
    import pyarrow.parquet as parquet

    sound = all(text.strip() and "\0" not in text for row in rows for text in row[:2])
    with tempfile.TemporaryDirectory() as folder:
        objects = [dict(zip(NAMES, row)) for row in rows]
        paths = [
            Path(folder) / f"a.{ending}" for ending in ("jsonl", "json", "parquet", "csv", "tsv")
        ]
        paths[0].write_text("\n".join(json.dumps(o, ensure_ascii=False) for o in objects), "utf-8")
        paths[1].write_text(json.dumps(objects), "utf-8")
        parquet.write_table(pa.Table.from_pylist(objects), paths[2])
        with open(paths[3], "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([NAMES, *rows])
        plain = all(not set(text) & set("\t\n\r") for row in rows for text in row[:2])
        paths[4].write_text(
            "".join("\t".join(map(str, row)) + "\n" for row in [NAMES, *rows]), "utf-8", newline=""
        )
        for path in paths:
            try:
                got = [tuple(row.values()) for row in read_table(path, FIELDS)]
            except DataError:
                fine = sound and (path.suffix != ".tsv" or plain)
                lone = any("\r" in text for row in rows for text in row[:2])
                assert not fine or (path.suffix == ".csv" and lone)
            else:
                assert got == rows or (path.suffix == ".tsv" and not plain)
    return sound


@st.composite
def parquet_bytes(draw: st.DrawFn) -> bytes:
    """A Parquet file of odd columns with a few bytes changed."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    size = draw(st.integers(0, 4))
    kinds = [st.text(CHARACTERS, max_size=5), st.integers(0, 9), st.floats(), st.binary(max_size=5)]
    table = {}
    if draw(st.booleans()):
        for name in NAMES:
            kind = st.integers(0, 9) if name == "label" else WORDS
            table[name] = draw(st.lists(kind, min_size=size, max_size=size))
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=0 if table else 3)):
        kind = st.one_of(st.none(), draw(st.sampled_from(kinds)))
        table[name] = draw(st.lists(kind, min_size=size, max_size=size))
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.table(table), sink, write_page_checksum=True)
    return draw(damaged(st.just(sink.getvalue().to_pybytes())))


def check_parquet(data: bytes) -> bool:
    """A damaged Parquet file gives rows or a DataError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        path.write_bytes(data)
        found = False
        for read in (
            lambda: read_table(path, FIELDS),
            lambda: list(read_blocks(path, NAMES[:2])),
        ):
            try:
                read()
                found = True
            except DataError as error:
                assert str(path) in str(error)
        return found


KEYS = st.lists(
    st.tuples(st.lists(st.integers(3, 9), max_size=4), st.lists(st.integers(3, 9), max_size=3)),
    min_size=1, max_size=12,
)  # fmt: skip
QUERIES = st.lists(st.lists(st.integers(-1, 12), max_size=6), max_size=6)


def check_index(case: tuple[list[tuple[list[int], list[int]]], list[list[int]]]) -> bool:
    """Build, save, load, ask: as a dict of prefixes answers."""
    keys, queries = case
    rows = [([*a, SEP, *b], str(number)) for number, (a, b) in enumerate(keys)]
    with tempfile.TemporaryDirectory() as folder:
        PrefixIndex.build(rows, separator=SEP).save(Path(folder) / "i")
        index = PrefixIndex.load(Path(folder) / "i")
        for query in [*queries, *(key for key, _ in rows)]:
            want = sorted(v for key, v in rows if [*key, SEP][: len(query)] == query)
            assert sorted(index.values(query)) == want
            assert index.count(query) == len(want)
        state = index.start(3)
        while len(state.lo):
            children = index.allowed(state)
            if not len(children.token):
                break
            state = index.choose(state, children, np.arange(min(3, len(children.token))))
    return True


@st.composite
def index_damage(draw: st.DrawFn) -> tuple[Any, str, Any]:
    keys = draw(KEYS)
    name = draw(st.sampled_from(["arrays.bin", "header.json"]))
    how = draw(st.tuples(st.sampled_from(["flip", "cut", "put", "end"]), st.floats(0, 1),
                         st.binary(min_size=1, max_size=8)))  # fmt: skip
    return keys, name, how


def check_index_damage(case: tuple[Any, str, Any]) -> bool:
    """Changed bytes of a stored index: refused with IndexFileError, or the same index as before."""
    keys, name, (how, where, extra) = case
    rows = [([*a, SEP, *b], str(number)) for number, (a, b) in enumerate(keys)]
    with tempfile.TemporaryDirectory() as folder:
        path = PrefixIndex.build(rows, separator=SEP).save(Path(folder) / "i") / name
        data = bytearray(path.read_bytes())
        at = int(where * (len(data) - 1))
        if how == "flip":
            data[at] ^= 1 << (extra[0] % 8)
        elif how == "cut":
            del data[at : at + len(extra)]
        elif how == "put":
            data[at:at] = extra
        else:
            del data[at:]
        path.write_bytes(data)
        try:
            index = PrefixIndex.load(Path(folder) / "i")
        except IndexFileError as error:
            assert str(Path(folder)) in str(error)
            return False
        for key, value in rows:
            assert value in index.values(key)
        return True


CHECKS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], bool]]] = {
    "bytes of TSV, CSV, JSON": (FILES, check_reading),
    "rows through all formats": (ROWS, check_round_trip),
    "bytes of Parquet": (parquet_bytes(), check_parquet),
    "index: build, save, load, ask": (st.tuples(KEYS, QUERIES), check_index),
    "bytes of a stored index": (index_damage(), check_index_damage),
}
"""What is fuzzed -> inputs, and the check of one; it returns whether the input was accepted."""
