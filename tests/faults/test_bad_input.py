"""The classes of bad input, every one: a typed error that names FILE:LINE, or counted and reported.

The numbers are those of the table in docs/reliability.md. Three tables: what can be wrong with any
file (each row is tried on every reader), what can be wrong with a field, and what can be wrong
beyond files. A number that is neither here nor in ``ELSEWHERE`` fails the last test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_pl.reading import DataError
from tests.faults.bad_input import READERS, Reader, delimited, objects

ROOT = Path(__file__).resolve().parents[2]
SAME = "the same rows"
Change = Callable[[bytes], bytes]

FILES: dict[str, tuple[str, Change, str, str]] = {
    # class: numbers, what is done to a good file, what is expected, readers that differ
    "empty file": ("3", lambda b: b"", r"FILE: no rows, the file is empty", ""),
    "blank lines only": ("4", lambda b: b"\n \n\r\n", r"FILE: no rows", "text file"),
    "byte order mark": ("6", lambda b: b"\xef\xbb\xbf" + b, SAME, ""),
    "CRLF": ("7", lambda b: b.replace(b"\n", b"\r\n"), SAME, "text file"),
    "no final newline": ("9", lambda b: b.rstrip(b"\n"), SAME, "text file"),
    "blank lines between": ("4", lambda b: b.replace(b"\n", b"\n\n \n"), SAME, "text file"),
    "lone CR": ("8", lambda b: b + "末\r尾\n".encode(), r"FILE:4: a lone carriage", "text file"),
    "UTF-16": ("10", lambda b: b.decode().encode("utf-16"), r"FILE:1: is UTF-16.*iconv", ""),
    "GBK": ("10", lambda b: b.decode().encode("gbk", "replace"), r"FILE:1: not UTF-8 at byte", ""),
    "cut in a character": (
        "11", lambda b: b + "末尾".encode()[:-1], r"FILE:(4|3): not UTF-8.*cut", ""
    ),
    "NUL": ("12", lambda b: b + b"a\0b\n", r"FILE:(4|3): a NUL byte", ""),
}  # fmt: skip


def expected(message: str, path: Path) -> str:
    return message.replace("FILE", re.escape(str(path)))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("name", READERS)
def test_files(tmp_path: Path, name: str, kind: str) -> None:
    _, change, says, apart = FILES[kind]
    if name in apart.split(", "):
        pytest.skip("plain text has neither rows nor blank lines; see test_plain_text")
    reader = READERS[name]
    path = tmp_path / reader.file
    path.write_bytes(change(reader.good))
    if says == SAME:
        assert reader.read(path, {}) == reader.rows
        return
    with pytest.raises(DataError, match=expected(says, path)):
        reader.read(path, {})


@pytest.mark.parametrize("name", READERS)
def test_good_files_missing_files_and_folders(tmp_path: Path, name: str) -> None:
    reader = READERS[name]
    path = tmp_path / reader.file
    with pytest.raises(DataError, match=r"no such file"):
        reader.read(path, {})
    path.write_bytes(reader.good)
    assert reader.read(path, {}) == reader.rows
    path.unlink()
    near = path.with_name("b" + path.name)
    near.write_bytes(reader.good)
    with pytest.raises(DataError, match=rf"near names there: .*{re.escape(near.name)}"):
        reader.read(path, {})
    path.mkdir()
    with pytest.raises(
        DataError, match=r"is a directory|no such file|a folder without (data )?files"
    ):
        reader.read(path, {})


def test_plain_text(tmp_path: Path) -> None:
    """A text file has no rows: its line ends are characters like others, nothing is left out."""
    path = tmp_path / "a.md"
    for text in ("甲\r\n乙", "甲\r乙\n", "\n \n甲", " \n"):
        path.write_bytes(text.encode())
        assert READERS["text file"].read(path, {}) == [text]


CSV, JSON = "pairs csv", "pairs jsonl"
TSV = delimited("\t", [("甲", "乙", 1)]).decode()
OBJECT = objects("text1 text2 label", [("甲", "乙", 1)]).decode()
TRIPLE = objects("subject predicate object", [("甲", "乙", "丙")]).decode()
QUESTION = objects("id question answer", [(0, "问", "甲 ||| 乙 ||| 丙")]).decode()

FIELDS: list[tuple[str, str, str, str, str]] = [
    # numbers, class, reader, content of the file, what is expected
    ("5", "header only", "pairs tsv", "text1\ttext2\tlabel\n", "FILE:1: no rows, only a header"),
    ("5", "header only", CSV, "text1,text2,label\n", "FILE:1: no rows, only a header"),
    ("13", "half a surrogate pair", JSON, OBJECT + '{"text1": "\\ud83d", "text2": "b", "label": 1}',
     "FILE:2: half of a surrogate pair in text1"),
    ("13", "half a surrogate pair", "triples jsonl",
     TRIPLE + '{"subject": "\\ud83d", "predicate": "b", "object": "c"}',
     "FILE:2: half of a surrogate pair in subject"),
    ("13", "half a surrogate pair", "questions",
     QUESTION + '{"id": 1, "question": "\\ud83d", "answer": "a ||| b ||| c"}',
     "FILE:2: half of a surrogate pair in question"),
    ("14", "malformed JSON", JSON, OBJECT + '{"text1": "甲",}', "FILE:2: malformed JSON at column"),
    ("14", "malformed JSON", "triples jsonl", TRIPLE + '{"subject"', "FILE:2: malformed JSON"),
    ("14", "malformed JSON", "questions", QUESTION + "{", "FILE:2: malformed JSON at column"),
    ("14", "malformed array", "questions", '[{"question": 1},\n', "FILE:1: malformed JSON"),
    ("14", "nested too deep", JSON, OBJECT + '{"a":' * 99999, "FILE:2: nested too deep"),
    ("14", "a number of 5000 digits", JSON, OBJECT + '{"a": ' + "9" * 5000 + "}",
     "FILE:2: a number of too many digits"),
    ("15", "no object", JSON, OBJECT + '"甲"', "FILE:2: a JSON str, expected an object"),
    ("15", "no object", "triples jsonl", TRIPLE + "3", "FILE:2: a JSON int, expected an object"),
    ("16", "key twice", JSON, OBJECT + '{"label": 1, "label": 0}', "FILE:2: the key 'label' occurs"),
    ("16", "key twice", "questions", QUESTION + '{"id": 1, "id": 2}', "FILE:2: the key 'id' occurs"),
    ("16", "header name twice", "pairs tsv", "text1\ttext2\tlabel\tlabel\n甲\t乙\t1\t0\n",
     "FILE:1: the column 'label' occurs twice"),
    ("17", "NaN", JSON, OBJECT + '{"label": NaN}', "FILE:2: NaN is not JSON"),
    ("17", "Infinity", "triples jsonl", TRIPLE + '{"subject": Infinity}', "FILE:2: Infinity is not"),
    ("18", "missing column", JSON, '{"text1": "a", "textt2": "b", "label": 1}',
     r"FILE: no column 'text2'; the columns are .*do: set data.text2_column, perhaps to 'textt2'"),
    ("18", "missing column", "keyed jsonl", '{"query": "a", "keys": "b"}',
     r"FILE: no column 'key'; .*set data.key, perhaps to 'keys'"),
    ("18", "missing column", "triples jsonl", '{"subject": "甲", "object": "乙"}',
     "FILE:1: no column 'predicate'"),
    ("18", "missing column", "text table", '{"txt": "甲"}', "FILE: no column 'text'.*data.field"),
    ("18", "missing column", "questions", '{"query": "甲"}', "FILE:1: no text under 'question'"),
    ("18", "missing in one row", JSON, OBJECT + '{"text1": "a", "label": 1}',
     "FILE:2: text2 is not text; saw 'None'"),
    ("20", "short row", "pairs tsv", TSV + "甲\t乙\n", "FILE:2: too few fields: 2, the first row has 3"),
    ("20", "short row", "keyed tsv", "问\t甲\n问\n", "FILE:2: too few fields: 1, the first row has 2"),
    ("20", "short row", "triples tsv", "a\tb\tc\na\tb\n", "FILE:2: too few fields: 2, expected 3"),
    ("20", "short row", CSV, "甲,乙,1\n甲,乙\n", "FILE:2: too few fields: 2, the first row has 3"),
    ("21", "long row", "pairs tsv", TSV + "甲\t乙\t1\t\n", "FILE:2: too many fields: 4, the first row"),
    ("21", "long row", "triples tsv", "a\tb\tc\n\na\tb\tc\td\n", "FILE:3: too many fields: 4"),
    ("22", "quote not closed", CSV, '甲,乙,1\n"丙,丁,1\n', "FILE:2: malformed CSV"),
    ("22", "text behind a quote", CSV, '甲,乙,1\n"丙"x,丁,1\n', "FILE:2: malformed CSV"),
    ("24", "commas in a TSV", "pairs tsv", "甲,乙,1\n", r"FILE:1: no tab .*separated by a comma.*csv"),
    ("24", "tabs in a CSV", CSV, "甲\t乙\t1\n", r"FILE:1: no comma .*separated by a tab.*tsv"),
    ("24", "commas for triples", "triples tsv", "甲,乙,1\n", "FILE:1: too few fields: 1, expected 3"),
    ("25", "label is a word", "pairs tsv", TSV + "甲\t乙\tx\n", "FILE:2: label is not a .*saw 'x'"),
    ("26", "label 01", "pairs tsv", TSV + "甲\t乙\t01\n", "FILE:2: label .*saw '01'"),
    ("26", "label 1.0", "pairs tsv", TSV + "甲\t乙\t1.0\n", "FILE:2: label .*data.label=number"),
    ("28", "fraction as a class", JSON, OBJECT + '{"text1": "a", "text2": "b", "label": 0.5}',
     "FILE:2: label is not a whole number; saw '0.5'"),
    ("29", "label null", JSON, OBJECT + '{"text1": "a", "text2": "b", "label": null}',
     "FILE:2: label is missing"),
    ("29", "label empty", "pairs tsv", TSV + "甲\t乙\t\n", "FILE:2: label is missing"),
    ("29", "label nan", "pairs tsv", TSV + "甲\t乙\tnan\n", "FILE:2: label is not a .*saw 'nan'"),
    ("34", "text empty", "pairs tsv", TSV + "\t乙\t1\n", "FILE:2: text1 is empty"),
    ("34", "query empty", "keyed tsv", "问\t甲\n\t乙\n", "FILE:2: query is empty"),
    ("34", "key empty", "keyed tsv", "问\t甲\n问\t\n", "FILE:2: key is empty"),
    ("34", "question empty", "questions", '{"question": ""}', "FILE:1: no text under 'question'"),
    ("35", "text blank", "pairs tsv", TSV + "甲\t \u3000\t1\n", "FILE:2: text2 is empty"),
    ("35", "text blank", "text table", '{"text": "甲"}\n{"text": " "}', "FILE:2: text is empty"),
    ("38", "id twice", "questions", QUESTION + "\n" + QUESTION,
     r"FILE:3: the id was seen before, at FILE:1"),
    ("41", "object missing", "triples jsonl", TRIPLE + '{"subject": "a", "predicate": "b", "object": null}',
     "FILE:2: object is not text; saw 'None'"),
    ("41", "object a number", "triples jsonl", TRIPLE + '{"subject": "a", "predicate": "b", "object": 1.0}',
     "FILE:2: object is not text; saw '1.0'"),
    ("41", "question without answer", "questions", '{"id": 1, "question": "问"}', "FILE:1: answer None"),
    ("41", "answer of two parts", "questions", '{"question": "问", "answer": "甲 ||| 乙"}',
     r"FILE:1: answer '甲 \|{3} 乙' is not"),
    ("41", "answer with an empty part", "questions", '{"question": "问", "answer": "甲 |||  ||| 乙"}',
     "FILE:1: answer"),
    ("1", "unknown ending", "pairs tsv", "xlsx:甲\n", "the ending '.xlsx' is unknown"),
]  # fmt: skip


def place(tmp_path: Path, reader: Reader, content: str) -> Path:
    ending, colon, rest = content.partition(":")
    name = f"a.{ending}" if colon and ending == "xlsx" else reader.file
    path = tmp_path / name
    path.write_text(rest if name != reader.file else content, encoding="utf-8")
    return path


@pytest.mark.parametrize("case", FIELDS, ids=lambda c: f"{c[0]} {c[1]}, {c[2]}")
def test_fields(tmp_path: Path, case: tuple[str, ...]) -> None:
    reader = READERS[case[2]]
    path = place(tmp_path, reader, case[3])
    with pytest.raises(DataError, match=expected(case[4], path)):
        reader.read(path, {})


@pytest.mark.parametrize(
    "case", [c for c in FIELDS if re.match("FILE:[23]", c[4])], ids=lambda c: f"{c[1]}, {c[2]}"
)
def test_a_bad_row_is_left_out_counted_and_listed(
    tmp_path: Path, case: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """With on_error=skip every class of a row costs that row only; an open quote is never skipped."""
    reader = READERS[case[2]]
    path = place(tmp_path, reader, case[3])
    report = tmp_path / "bad.jsonl"
    name = "report" if case[2].startswith(("questions", "triples", "predict")) else "bad_rows"
    policy = {"on_error": "skip", name: report if name == "report" else str(report)}
    if case[1] == "quote not closed":
        with pytest.raises(DataError, match="malformed CSV"):
            reader.read(path, policy)
        return
    rows = reader.read(path, policy)
    assert len(rows) == 1
    (bad,) = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    line = int(case[4].split(":")[1])
    assert (bad["file"], bad["line"]) == (str(path), line)
    assert f"1 bad rows were left out, the first at {path}:{line}" in caplog.text


KEPT = [
    "NA",
    "null",
    "None",
    "nan",
    '"甲',
    "'",
    'a "b"',
    "a\u2028b",
    "a\x85b",
    "001",
    "1e5",
    "TRUE",
]


@pytest.mark.parametrize("name", [n for n in READERS if "tsv" in n or n in ("keys", "predict")])
@pytest.mark.parametrize("text", KEPT)
def test_text_stays_text(tmp_path: Path, name: str, text: str) -> None:
    """22, 23: no quoting, no null strings, no numbers, no other line ends."""
    reader = READERS[name]
    first = reader.good.decode().split("\n")[0].split("\t")
    path = tmp_path / reader.file
    row = "\t".join([text, *first[1:]])
    path.write_bytes(reader.good + (row + "\n").encode())
    last = reader.read(path, {})[-1]
    assert (last if isinstance(last, str) else last[0]) == text


def test_extra_columns_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """19: of objects, of a header, and of positions."""
    for name, content in {
        "a.jsonl": '{"text1": "a", "text2": "b", "label": 1, "x": 3}\n' * 3,
        "b.tsv": "text1\ttext2\tlabel\tx\n" + "甲\t乙\t1\t7\n" * 3,
        "c.csv": "甲,乙,1,7\n" * 3,
    }.items():
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        caplog.clear()
        READERS["pairs tsv"].read(path, {})
        unused = "3" if name == "c.csv" else "x"
        said = [r.getMessage() for r in caplog.records if "not used" in r.getMessage()]
        assert said == [f"{path}: columns that are not used: {unused}"]


def test_long_lines_are_bounded(tmp_path: Path) -> None:
    """37: a line of 10 MB is accepted or refused by data.max_line_bytes."""
    path = tmp_path / "a.tsv"
    path.write_text("甲" * 3_500_000 + "\t乙\t1\n", encoding="utf-8")
    assert len(READERS["pairs tsv"].read(path, {})[0][0]) == 3_500_000
    with pytest.raises(DataError, match=r"a.tsv:1: a line of 10500006 bytes, longer than data.max"):
        READERS["pairs tsv"].read(path, {"max_line_bytes": 10_000_000})
    with pytest.raises(DataError, match=r"a.tsv:1: a line of 10500006 bytes, longer than data.max"):
        READERS["triples tsv"].read(path, {"max_line_bytes": 10_000_000})


def test_too_many_bad_rows_stop(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(TSV + "x\n" * 5, encoding="utf-8")
    with pytest.raises(DataError, match=r"a.tsv:4: more than data.max_bad=2 bad rows"):
        READERS["pairs tsv"].read(path, {"on_error": "skip", "max_bad": 2})


def numbers() -> set[int]:
    found = [case[0] for case in FIELDS] + [row[0] for row in FILES.values()]
    return {int(number) for number in found}
