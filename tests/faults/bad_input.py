"""What the tables of bad input are read with: one good file a reader, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_pl.data.files import Files
from kexue_pl.data.keyed_pairs import KeyedPairs
from kexue_pl.data.kgclue_reader import parse_question, read_questions
from kexue_pl.data.text import Text
from kexue_pl.predict.cli import _read_texts
from kexue_pl.reading import RowPolicy
from kexue_pl.retrieval.key_files import read_blocks

PAIRS = [("甲乙", "丙丁", 1), ("戊己", "庚辛", 0), ("子丑", "寅卯", 1)]
KEYED = [("找甲", "甲"), ("找乙", "乙"), ("找丙", "丙")]
TRIPLES = [("龙晶（游戏）", "类型", "游戏"), ("龙晶", "繁体", "龍晶"), ("氢", "符号", "H")]
TEXTS = ["一行字", "二行字", "三行字"]


def objects(names: str, rows: list[Any]) -> bytes:
    lines = [json.dumps(dict(zip(names.split(), row)), ensure_ascii=False) for row in rows]
    return "".join(line + "\n" for line in lines).encode()


def delimited(mark: str, rows: list[Any]) -> bytes:
    return "".join(mark.join(map(str, row)) + "\n" for row in rows).encode()


def _pairs(path: Path, policy: dict[str, Any]) -> Any:
    valid = path.with_name("good.tsv")
    valid.write_bytes(delimited("\t", [("x", "y", 1), ("z", "w", 0)]))
    data = Files(train=str(path), valid=str(valid), **policy)
    data.setup("fit")
    return [
        tuple(row[name] for name in ("text1", "text2", "label")) for row in data.tables["train"]
    ]


def _keyed(path: Path, policy: dict[str, Any]) -> Any:
    data = KeyedPairs(train=str(path), valid=str(path), **policy)
    data.setup("fit")
    return [(row["question"], row["value"]) for row in data.train_set or []]


def _keys(path: Path, policy: dict[str, Any]) -> Any:
    pairs = path.with_name("pairs.tsv")
    pairs.write_bytes(delimited("\t", KEYED))
    data = KeyedPairs(train=str(pairs), valid=str(pairs), keys=str(path), **policy)
    data.setup("fit")
    return [value for _, value in data.base]


def _questions(path: Path, policy: dict[str, Any]) -> Any:
    found = read_questions(path, policy=RowPolicy(**policy))
    return [parse_question(row)[:3] for row in found]


def _triples(path: Path, policy: dict[str, Any]) -> Any:
    columns = ("subject", "predicate", "object")
    blocks = read_blocks(path, columns, policy=RowPolicy(**policy))
    return [row for block in blocks for row in zip(*(column.to_pylist() for column in block))]


def _text(path: Path, policy: dict[str, Any]) -> Any:
    data = Text(train=str(path), valid=str(path), test=str(path), **policy)
    data.setup("fit")
    return list(data.documents("train"))


def _predict(path: Path, policy: dict[str, Any]) -> Any:
    return _read_texts(str(path), None, RowPolicy(**policy))


@dataclass(frozen=True)
class Reader:
    """A reader, a good file for it, and the rows that it gives."""

    file: str
    good: bytes
    rows: list[Any]
    read: Callable[[Path, dict[str, Any]], Any]


_ASKED = [(f"问{s}", f"{s} ||| {p} ||| {o}") for s, p, o in TRIPLES]
_PARTS = [("问龙晶（游戏）", "龙晶", "类型"), ("问龙晶", "龙晶", "繁体"), ("问氢", "氢", "符号")]

READERS = {
    "pairs tsv": Reader("a.tsv", delimited("\t", PAIRS), PAIRS, _pairs),
    "pairs csv": Reader("a.csv", delimited(",", PAIRS), PAIRS, _pairs),
    "pairs jsonl": Reader("a.jsonl", objects("text1 text2 label", PAIRS), PAIRS, _pairs),
    "keyed tsv": Reader("a.tsv", delimited("\t", KEYED), KEYED, _keyed),
    "keyed jsonl": Reader("a.jsonl", objects("query key", KEYED), KEYED, _keyed),
    "keys": Reader("keys.txt", "甲\n乙\n丙\n".encode(), ["甲", "乙", "丙"], _keys),
    "questions": Reader("a.json", objects("question answer", _ASKED), _PARTS, _questions),
    "triples tsv": Reader("a.tsv", delimited("\t", TRIPLES), TRIPLES, _triples),
    "triples jsonl": Reader(
        "a.jsonl", objects("subject predicate object", TRIPLES), TRIPLES, _triples
    ),
    "text file": Reader("a.md", "一行字\n二行字\n".encode(), ["一行字\n二行字\n"], _text),
    "text table": Reader("a.jsonl", objects("text", [(t,) for t in TEXTS]), TEXTS, _text),
    "predict": Reader("a.txt", "".join(t + "\n" for t in TEXTS).encode(), TEXTS, _predict),
}
"""Every reader of a file of rows, by its name."""
