"""The classes of bad input of files, one case each: a typed error with FILE:LINE, or as stated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kexue_pl.reading import DataError, Field, RowPolicy, read_table

FIELDS = {"text1": Field(), "text2": Field(), "label": Field("label")}


def write(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)
    return path


def rows(path: Path | str, **fields: Field) -> list[tuple[Any, ...]]:
    table = read_table(path, {**FIELDS, **fields})
    return [tuple(row.values()) for row in table]


GOOD = "甲乙\t丙丁\t1\n戊己\t庚辛\t0\n"
WANT = [("甲乙", "丙丁", 1), ("戊己", "庚辛", 0)]

ACCEPTED = {
    "plain": GOOD.encode(),
    "bom": b"\xef\xbb\xbf" + GOOD.encode(),
    "crlf": GOOD.replace("\n", "\r\n").encode(),
    "no final newline": GOOD.rstrip("\n").encode(),
    "blank lines": ("\n" + GOOD.replace("\n", "\n\n  \n")).encode(),
    "header": ("text1\ttext2\tlabel\n" + GOOD).encode(),
    "header, other order": b"label\ttext2\ttext1\n" + "1\t丙丁\t甲乙\n0\t庚辛\t戊己\n".encode(),
    "more columns": ("text1\ttext2\tlabel\tid\n" + GOOD.replace("\n", "\t7\n")).encode(),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(tmp_path: Path, name: str) -> None:
    assert rows(write(tmp_path, "a.tsv", ACCEPTED[name])) == WANT


REFUSED: dict[str, tuple[str, bytes | str, str]] = {
    "empty file": ("a.tsv", "", "a.tsv: no rows, the file is empty"),
    "blank lines only": ("a.tsv", "\n \n\r\n", "a.tsv: no rows, only blank lines"),
    "header only": ("a.tsv", "text1\ttext2\tlabel\n", "a.tsv:1: no rows, only a header"),
    "lone CR": ("a.tsv", GOOD + "甲\t乙\r丙\t1\n", "a.tsv:3: a lone carriage return"),
    "GBK": ("a.tsv", GOOD.encode("gbk"), r"a.tsv:1: not UTF-8 at byte 0 .* looks like GBK"),
    "UTF-16": ("a.tsv", GOOD.encode("utf-16"), "a.tsv:1: is UTF-16.*iconv -f UTF-16"),
    "cut at the end": ("a.tsv", (GOOD + "甲\t乙").encode()[:-1], r"a.tsv:3: not .*cut inside"),
    "NUL": ("a.tsv", GOOD + "甲\0\t乙\t1\n", "a.tsv:3: a NUL byte"),
    "short row": ("a.tsv", GOOD + "甲\t乙\n", "a.tsv:3: too few fields: 2, the first row has 3"),
    "long row": ("a.tsv", GOOD + "甲\t乙\t1\t\n", "a.tsv:3: too many fields: 4, the first row"),
    "commas in a TSV": ("a.tsv", "甲,乙,1\n", "a.tsv:1: no tab .*separated by a comma.*csv"),
    "tabs in a CSV": ("a.csv", "甲\t乙\t1\n", "a.csv:1: no comma .*separated by a tab.*tsv"),
    "two columns": ("a.tsv", "甲\t乙\n", "the rows have 2 fields, label .*data.label_column"),
    "label text": ("a.tsv", GOOD + "甲\t乙\tx\n", "a.tsv:3: label is not a .*saw 'x'"),
    "label 01": ("a.tsv", GOOD + "甲\t乙\t01\n", "a.tsv:3: label .*saw '01'"),
    "label 1.0": ("a.tsv", GOOD + "甲\t乙\t1.0\n", "a.tsv:3: label .*'1.0'.*data.label=number"),
    "label empty": ("a.tsv", GOOD + "甲\t乙\t\n", "a.tsv:3: label is missing"),
    "label nan": ("a.tsv", GOOD + "甲\t乙\tnan\n", "a.tsv:3: label is not a .*saw 'nan'"),
    "text empty": ("a.tsv", GOOD + "\t乙\t1\n", "a.tsv:3: text1 is empty"),
    "text blank": ("a.tsv", GOOD + "甲\t \u3000\t1\n", "a.tsv:3: text2 is empty"),
    "open quote": ("a.csv", '甲,乙,1\n"丙,丁,1\n', "a.csv:2: malformed CSV"),
    "quote inside": ("a.csv", '甲,乙,1\n"丙"x,丁,1\n', "a.csv:2: malformed CSV"),
    "wide CSV row": ("a.csv", "甲,乙,1\n丙,丁,1,2\n", "a.csv:2: too many fields: 4"),
    "not Parquet": ("a.parquet", "甲\n", "a.parquet: not a Parquet file"),
    "unknown ending": ("a.xlsx", "甲\n", r"a.xlsx: the ending '.xlsx' is unknown"),
    "bad JSON": ("a.jsonl", '{"text1": "甲",}\n', "a.jsonl:1: malformed JSON at column"),
    "no object": ("a.jsonl", '\n"甲"\n', "a.jsonl:2: a JSON str, expected an object"),
    "key twice": ("a.jsonl", '{"label": 1, "label": 0}', "a.jsonl:1: the key 'label' occurs twice"),
    "NaN": ("a.jsonl", '{"text1": "a", "text2": "b", "label": NaN}', "a.jsonl:1: NaN is not JSON"),
    "Infinity": ("a.jsonl", '{"label": -Infinity}', "a.jsonl:1: -Infinity is not JSON"),
    "surrogate": (
        "a.jsonl",
        '{"text1": "\\ud83d", "text2": "b", "label": 1}',
        "a.jsonl:1: half of a surrogate pair in text1",
    ),
    "JSON null text": ("a.jsonl", '{"text1": null, "text2": "b", "label": 1}', "text1 is not text"),
    "JSON null label": (
        "a.jsonl",
        '{"text1": "a", "text2": "b", "label": null}',
        "label is missing",
    ),
    "key missing once": (
        "a.jsonl",
        '{"text1": "a", "text2": "b", "label": 1}\n{"text1": "a", "label": 1}',
        "a.jsonl:2: text2 is not text",
    ),
    "column missing": (
        "a.jsonl",
        '{"text1": "a", "textt2": "b", "label": 1}',
        r"no column 'text2'; the columns are 'text1', 'textt2', 'label'; do: .*'textt2'",
    ),
    "fraction as a class": (
        "a.jsonl",
        '{"text1": "a", "text2": "b", "label": 1}\n{"text1": "a", "text2": "b", "label": 0.5}',
        "a.jsonl:2: label is not a whole number; saw '0.5'",
    ),
    "empty array": ("a.json", "[]", "a.json: no rows, the array is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    file, data, message = REFUSED[name]
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, file, data), FIELDS)


def test_missing_file_lists_near_names(tmp_path: Path) -> None:
    write(tmp_path, "train.tsv", GOOD)
    with pytest.raises(DataError, match=r"trian.tsv: no such file; do: near names.*train.tsv"):
        read_table(tmp_path / "trian.tsv", FIELDS)


def test_folder_is_read_in_order_and_an_empty_one_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder without data files"):
        read_table(tmp_path, FIELDS)
    write(tmp_path, "b.csv", "戊己,庚辛,0\n")
    write(tmp_path, "a.tsv", "甲乙\t丙丁\t1\n")
    write(tmp_path, "readme.md", "nothing")
    table = read_table(tmp_path, FIELDS)
    assert [tuple(row.values()) for row in table] == WANT
    assert table.where(1) == f"{tmp_path / 'b.csv'}:1"


def test_a_file_where_a_folder_of_files_is_no_help(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").mkdir()
    with pytest.raises(DataError, match=r"a folder without data files"):
        read_table(tmp_path / "x.tsv", FIELDS)


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", '"甲', 'a "b" c', "a\u2028b", "'"])
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "a.tsv", f"{text}\t{text}\t1\n乙\t丙\t0\n")
    assert rows(path) == [(text, text, 1), ("乙", "丙", 0)]


def test_csv_quotes_hold_commas_newlines_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '"甲,乙","丙\n\n""丁""",1\n\n戊,己,0\n')
    table = read_table(path, FIELDS)
    assert table[0] == {"text1": "甲,乙", "text2": '丙\n\n"丁"', "label": 1}
    assert [line for _, line in table.places] == [1, 5]


def test_line_numbers_after_blank_lines_and_header(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "\ntext1\ttext2\tlabel\n\n甲\t乙\t1\n\n丙\t丁\t0\n")
    assert [line for _, line in read_table(path, FIELDS).places] == [4, 6]


def test_jsonl_array_and_parquet_give_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    objects = [dict(zip(FIELDS, row)) for row in WANT]
    lines = "\n".join(json.dumps(one, ensure_ascii=False) for one in objects)
    parquet.write_table(pa.Table.from_pylist(objects), tmp_path / "a.parquet")
    assert rows(write(tmp_path, "a.jsonl", lines)) == WANT
    assert rows(write(tmp_path, "a.json", json.dumps(objects))) == WANT
    assert rows(tmp_path / "a.parquet") == WANT
    assert read_table(tmp_path / "a.parquet", FIELDS).to_dataset()[1]["text1"] == "戊己"


def test_extra_json_columns_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    line = '{"text1": "a", "text2": "b", "label": 1, "id": 3}\n'
    assert rows(write(tmp_path, "a.jsonl", line * 3)) == [("a", "b", 1)] * 3
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / 'a.jsonl'}: columns that are not used: id"
    ]


def test_labels_out_of_range_and_kinds(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "甲\t乙\t6\n")
    with pytest.raises(DataError, match=r"label out of range 0..5; saw '6'"):
        rows(path, label=Field("label", low=0, high=5))
    scores = write(tmp_path, "b.tsv", "甲\t乙\t3.8\n丙\t丁\t5\n")
    assert rows(scores) == [("甲", "乙", 3.8), ("丙", "丁", 5.0)]


def test_columns_by_position_and_name(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "7\t甲\t乙\t1\n")
    fields = {"text1": Field(column=1), "text2": Field(column=2), "label": Field("label", column=3)}
    assert rows(path, **fields) == [("甲", "乙", 1)]
    named = write(tmp_path, "b.csv", "q,a,y\n甲,乙,1\n")
    fields = {k: Field(f.kind, column=c) for (k, f), c in zip(FIELDS.items(), "qay")}
    assert rows(named, **fields) == [("甲", "乙", 1)]
    with pytest.raises(DataError, match=r"no column 'z'; the columns are 'q', 'a', 'y'"):
        rows(named, **{**fields, "label": Field("label", column="z")})


def test_optional_field_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "甲\t乙\n")
    table = read_table(path, {**FIELDS, "label": Field("label", required=False)})
    assert list(table.columns) == ["text1", "text2"]


def test_skip_counts_and_reports(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", GOOD + "甲\t乙\n丙\t丁\tx\n".replace("丙", "\xff丙"))
    path.write_bytes(path.read_bytes() + b"\xff\xfe\t\xff\t1\n" + "末\t尾\t1\n".encode())
    policy = RowPolicy(on_error="skip", max_bad=3, report=tmp_path / "out" / "bad_rows.jsonl")
    table = read_table(path, FIELDS, policy=policy)
    assert len(table) == 3 and table.where(2).endswith(":6")
    text = (tmp_path / "out" / "bad_rows.jsonl").read_text(encoding="utf-8")
    report = [json.loads(line) for line in text.splitlines()]
    assert sorted(row["line"] for row in report) == [3, 4, 5]
    assert {"file", "line", "what", "saw"} == set(report[0])
    with pytest.raises(DataError, match=r"more than data.max_bad=2 bad rows"):
        read_table(path, FIELDS, policy=RowPolicy(on_error="skip", max_bad=2))


def test_all_rows_bad_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", "x\ny\n")
    with pytest.raises(DataError, match=r"a.jsonl: no rows"):
        read_table(path, FIELDS, policy=RowPolicy(on_error="skip"))


def test_long_line_is_bounded(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", "甲" * 2000 + "\t乙\t1\n")
    with pytest.raises(DataError, match=r"a.tsv:1: a line of 6006 bytes"):
        read_table(path, FIELDS, policy=RowPolicy(max_line_bytes=1000))
    assert len(rows(path)) == 1


def test_policy_is_checked() -> None:
    with pytest.raises(ValueError, match=r"data.on_error='ignore': expected raise or skip"):
        RowPolicy(on_error="ignore")
    with pytest.raises(ValueError, match=r"data.max_bad=-1"):
        RowPolicy(max_bad=-1)


def test_hub_address(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []

    def load(*args: Any, **options: Any) -> list[dict[str, Any]]:
        asked.append((args, options))
        return [{"text1": "甲", "text2": "乙", "label": 1}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    table = read_table("hub:owner/name[zh]:train@1f2e", FIELDS)
    assert table[0]["text2"] == "乙" and table.where(0) == "hub:owner/name[zh]:train@1f2e:1"
    assert asked == [(("owner/name", "zh"), {"split": "train", "revision": "1f2e"})]
    with pytest.raises(DataError, match=r"write hub:OWNER/NAME:SPLIT@REVISION"):
        read_table("hub:owner/name:train", FIELDS)


def test_hub_failure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load(*args: Any, **options: Any) -> None:
        raise ConnectionError("offline mode is enabled")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"cannot be loaded \(offline mode is enabled\)"):
        read_table("hub:owner/name:train@main", FIELDS)
