"""The same base from TSV, JSONL and Parquet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.retrieval import PrefixIndex, Strings, index_file, key_files, split_subject
from kexue_pl.retrieval.encode import encoder_of
from tests.retrieval.oracle import tree, walk

SEP = 1
ROWS = [
    ("龙晶（游戏）", "繁体", "龍晶"),
    ("龙晶", "类型", '带"引号'),
    ("龙晶（游戏）", "类型", "游戏"),
    ("", "空", ""),
    ("NA", "null", "NaN"),
]


def encode(texts: list[str]) -> Strings:
    return Strings.of([[ord(c) for c in t.lower()] for t in texts])


def write(folder: Path, kind: str) -> Path:
    path = folder / f"base.{kind}"
    if kind == "tsv":
        path.write_text("".join("\t".join(r) + "\n" for r in ROWS), encoding="utf-8")
    elif kind == "jsonl":
        names = ("subject", "predicate", "object")
        lines = (json.dumps(dict(zip(names, r, strict=True)), ensure_ascii=False) for r in ROWS)
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        columns = list(zip(*ROWS, strict=True))
        pq.write_table(
            pa.table(dict(zip(("subject", "predicate", "object"), columns, strict=True))), path
        )
    return path


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "parquet"])
def test_all_formats_give_the_expected_base(tmp_path: Path, kind: str) -> None:
    seen: list[int] = []
    index = index_file(write(tmp_path, kind), encode, separator=SEP, progress=seen.append)
    got = {(*index.texts(r), index.value(r)) for r in range(len(index))}
    want = {(s, p, m, o) for (s, m), p, o in ((split_subject(s), p, o) for s, p, o in ROWS)}
    assert got == want and sum(seen) == len(ROWS)
    name = [ord(c) for c in "龙晶"]
    assert index.count([*name, SEP]) == 3
    assert index.values([*name, SEP, ord("繁"), ord("体"), SEP]) == ["龍晶"]


def test_many_blocks_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = [f"s{a}\tp{b}\to{a * b}" for a, b in rng.integers(0, 40, (2000, 2)).tolist()]
    path = tmp_path / "base.tsv"
    path.write_text("\n".join(rows), encoding="utf-8")
    one = index_file(path, encode, separator=SEP)
    monkeypatch.setattr(key_files, "BLOCK", 1000)
    many = index_file(path, encode, separator=SEP)
    assert set(one.arrays) == set(many.arrays)
    for name, array in one.arrays.items():
        assert np.array_equal(array, many.arrays[name]), name


def test_flat_keys_and_row_numbers_as_values(tmp_path: Path) -> None:
    path = tmp_path / "titles.tsv"
    path.write_text("乙\n甲\n", encoding="utf-8")
    index = index_file(path, encode, separator=SEP, keys=("title",), value=None, meaning=False)
    assert index.segments == 1 and index.values([ord("甲")]) == [1]


def test_faults_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"base.xml: suffix '.xml' is not one of .tsv"):
        index_file(tmp_path / "base.xml", encode, separator=SEP)
    with pytest.raises(ValueError, match="no such file"):
        index_file(tmp_path / "base.tsv", encode, separator=SEP)
    path = tmp_path / "base.jsonl"
    path.write_text('{"subject": "甲", "object": "乙"}\n')
    with pytest.raises(ValueError, match="no column 'predicate'"):
        index_file(path, encode, separator=SEP)
    path.write_text('{"subject": \n')
    with pytest.raises(ValueError, match=r"base.jsonl:1: malformed JSON"):
        index_file(path, encode, separator=SEP)
    path.write_text("")
    with pytest.raises(ValueError, match="no rows"):
        index_file(path, encode, separator=SEP)


def test_from_triples_is_the_same_door(tmp_path: Path) -> None:
    index = PrefixIndex.from_triples(write(tmp_path, "tsv"), encode, separator=SEP)
    assert len(index) == len(ROWS)


TOKENIZER = train_tokenizer(["龙晶（游戏）", "abc"], min_frequency=1)
# The last five are in no vocabulary: 龍 and 𪚥 share their first byte with nothing known.
texts = st.text(st.sampled_from("龙晶（）abA 龍𪚥😀é甲"), max_size=5)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=20))
def test_characters_outside_the_vocabulary_equal_the_nested_dict(
    tmp_path: Path, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path / "base.jsonl"
    names = ("subject", "predicate", "object")
    path.write_text("\n".join(json.dumps(dict(zip(names, r, strict=True))) for r in rows))
    end = TOKENIZER.sep_token_id
    index = index_file(path, encoder_of(TOKENIZER), separator=end)
    items = []
    for subject, predicate, answer in rows:
        name, meaning = split_subject(subject)
        given_ids = TOKENIZER([name, predicate, meaning], add_special_tokens=False)["input_ids"]
        key = [t for ids in given_ids for t in (*ids, end)][:-1]
        items.append((key, answer))
    root, leaves = tree(items, end)
    assert TOKENIZER.unk_token_id not in {t for key in leaves for t in key}
    assert walk(index, root, leaves) >= 2
