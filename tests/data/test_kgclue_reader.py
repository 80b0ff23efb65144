"""Question files: what is read and what is refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kexue_pl.data.kgclue_reader import parse_question, read_questions


def write(path: Path, rows: list[object]) -> Path:
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    return path


def test_rows_and_whitespace_of_objects(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json",
        [{"id": 7, "question": "Q", "answer": "甲（乙） ||| P ||| \u00a0O\u3000 o "}],
    )
    (row,) = read_questions(path)
    assert row["id"] == 7
    assert parse_question(row) == ("Q", "甲", "P", "乙", "O o")


def test_questions_without_answers_and_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", [{"question": "Q"}, {"question": "R"}])
    assert [r["id"] for r in read_questions(path, answers=False)] == [0, 1]
    with pytest.raises(ValueError, match=r"a.json:1: answer None is not 'S \|\|\| P \|\|\| O'"):
        read_questions(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.json:1: malformed JSON"),
        ("[1]", "a.json: row 1 of the array is a int"),
        ('{"question": 3}', "a.json:1: no text under 'question'"),
        ('{"question": "q", "answer": "a ||| b"}', "a.json:1: answer"),
        ("\n", "a.json: no rows, only blank lines"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_questions(path)
    with pytest.raises(ValueError, match="no such file"):
        read_questions(tmp_path / "b.json")
