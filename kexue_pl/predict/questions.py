"""Answers to questions, and the file that KgCLUE takes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kexue_pl.distributed import all_gather_objects, rank, world_size
from kexue_pl.retrieval.official import Answer
from kexue_pl.tasks.kgclue import KgclueTask

__all__ = ["answer_questions", "submission", "write_submission"]


def answer_questions(
    task: KgclueTask, questions: Sequence[str], *, method: str | None = None, batch_size: int = 64
) -> list[list[dict[str, Any]]]:
    """Best triples of each question, best first.

    Ranks answer disjoint shares; every rank gets all answers in the order of the questions.

    Args:
        task: trained, in evaluation mode.
        questions: texts.
        method: one of ``task.answerer().methods()``; None takes the first.
        batch_size: questions decoded at once.

    Returns:
        Lists of ``{"subject", "predicate", "object", "probability"}``; empty where nothing was
        found.

    Raises:
        ValueError: an unknown method.
    """
    answerer = task.answerer()
    accepted = answerer.methods()
    if method is not None and method not in accepted:
        raise ValueError(f"method={method!r}: accepted are {', '.join(accepted)}")
    own = list(range(rank(), len(questions), world_size()))
    found: dict[int, list[dict[str, Any]]] = {}
    for start in range(0, len(own), batch_size):
        part = own[start : start + batch_size]
        answers = answerer.answer(method or accepted[0], [questions[i] for i in part])
        for number, best in zip(part, answers, strict=True):
            found[number] = [
                {**f.answer._asdict(), "probability": math.exp(f.log_p)} for f in best if f.answer
            ]
    merged = {i: rows for pool in all_gather_objects(found) for i, rows in pool.items()}
    return [merged[i] for i in range(len(questions))]


def submission(
    rows: Iterable[dict[str, Any]], answers: Iterable[list[dict[str, Any]]]
) -> Iterator[str]:
    """Lines of the submission file: ``{"id": …, "answer": "S ||| P ||| O"}``.

    A question without an answer gets three empty fields, which the official script can read.

    Example:
        >>> list(submission([{"id": 4}], [[]]))
        ['{"id": 4, "answer": " |||  ||| "}']
    """
    for row, found in zip(rows, answers, strict=True):
        best = Answer("", "", "")
        if found:
            best = Answer(*(found[0][name] for name in Answer._fields))
        line = {"id": row["id"], "answer": " ||| ".join(best)}
        yield json.dumps(line, ensure_ascii=False)


def write_submission(task: KgclueTask, questions: str | Path, out: str | Path) -> Path:
    """Answer a question file and write the submission, on rank 0.

    Args:
        task: trained.
        questions: JSON lines with ``id`` and ``question``.
        out: file to write.
    """
    from kexue_pl.data.kgclue_reader import read_questions

    rows = read_questions(questions, answers=False)
    answers = answer_questions(task, [row["question"] for row in rows])
    out = Path(out)
    if rank() == 0:
        text = "\n".join(submission(rows, answers))
        out.write_text(text + "\n", encoding="utf-8")
    return out
