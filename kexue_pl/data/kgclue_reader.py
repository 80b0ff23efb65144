"""Strict reader of question files in the KgCLUE format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexue_pl.data.distractors import Question
from kexue_pl.reading import DataError, RowPolicy, iter_jsonl
from kexue_pl.retrieval.meaning import split_subject

MARK = " ||| "


def read_questions(
    path: str | Path, *, answers: bool = True, policy: RowPolicy | None = None
) -> list[dict[str, Any]]:
    """Rows ``{"id", "question", "answer"}`` of a JSON lines file.

    Args:
        path: one object a line: ``id``, ``question`` and, with ``answers``, ``answer`` = ``S ||| P
            ||| O``. Where no row has an ``id``, the rows are numbered from 0.
        answers: whether an answer is required.
        policy: what happens to bad rows; by default the first one raises.

    Raises:
        DataError: ``FILE:LINE: what; saw ...; do: ...``; among others an id that occurs twice.
    """
    path, policy = Path(path), policy or RowPolicy()
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for record in iter_jsonl(path, policy):
        try:
            rows.append(_checked(path, record.line, record.values, len(rows), answers, seen))
        except DataError as error:
            policy.fault(error)
    policy.write()
    if not rows:
        raise DataError(path, "no questions", do="give a file with questions")
    return rows


def _checked(
    path: Path, line: int, row: dict[str, Any], number: int, answers: bool, seen: dict[str, int]
) -> dict[str, Any]:
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        what, do = "no text under 'question'", "write the question as text"
        raise DataError(path, what, line=line, saw=question, do=do)
    if answers:
        answer = row.get("answer")
        parts = answer.split(MARK) if isinstance(answer, str) else []
        if len(parts) != 3 or not all(part.strip() for part in parts):
            what = f"answer {answer!r} is not 'S{MARK}P{MARK}O'"
            do = "write subject, predicate and object, or leave the question out"
            raise DataError(path, what, line=line, do=do)
    _check_text(path, line, row)
    key = repr(row.get("id", number))
    first = seen.setdefault(key, line)
    if first != line:
        what = f"the id was seen before, at {path}:{first}"
        raise DataError(path, what, line=line, saw=key, do="give every question an id of its own")
    return {"id": row.get("id", number), **row}


def _check_text(path: Path, line: int, row: dict[str, Any]) -> None:
    for name in ("question", "answer"):
        try:
            str(row.get(name)).encode("utf-8")
        except UnicodeEncodeError:
            what = f"half of a surrogate pair in {name}"
            saw = ascii(row[name])
            raise DataError(path, what, line=line, saw=saw, do="mend the text") from None


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
