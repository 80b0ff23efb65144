"""Strict reader of question files in the KgCLUE format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kexue_pl.data.distractors import Question
from kexue_pl.retrieval.meaning import split_subject

MARK = " ||| "


def read_questions(path: str | Path, *, answers: bool = True) -> list[dict[str, Any]]:
    """Rows ``{"id", "question", "answer"}`` of a JSON lines file.

    Args:
        path: one object a line: ``id``, ``question`` and, with ``answers``, ``answer`` = ``S ||| P
            ||| O``.
        answers: whether an answer is required.

    Raises:
        ValueError: names file, line and what is wrong.
    """
    path, rows = Path(path), []
    if not path.exists():
        raise ValueError(f"{path}: no such file")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get("question"), str):
            raise ValueError(f"{path}:{number}: no text under 'question'")
        if answers and len(str(row.get("answer", "")).split(MARK)) != 3:
            answer = row.get("answer")
            raise ValueError(f"{path}:{number}: answer {answer!r} is not 'S{MARK}P{MARK}O'")
        rows.append({"id": row.get("id", number - 1), **row})
    if not rows:
        raise ValueError(f"{path}: no questions")
    return rows


def parse_question(row: dict[str, Any]) -> Question:
    """Question with the parts of its answer; whitespace of the object is collapsed.

    Example:
        >>> row = parse_question({"question": "怎么写", "answer": "甲（乙） ||| 丙 ||| 丁"})
        >>> row.subject, row.predicate, row.meaning, row.object
        ('甲', '丙', '乙', '丁')
    """
    subject, predicate, object_ = str(row["answer"]).split(MARK)
    name, meaning = split_subject(subject)
    return Question(str(row["question"]), name, predicate, meaning, " ".join(object_.split()))
