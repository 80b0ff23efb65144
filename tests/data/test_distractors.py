"""Bases: deterministic, shuffled, and nothing in the order tells the answer."""

from __future__ import annotations

import random

import pytest

from kexue_pl.data.distractors import MODES, Question, knowledge_base


def rows(count: int = 120) -> list[Question]:
    rng = random.Random(0)
    word = lambda n: "".join(rng.choice("甲乙丙丁戊己庚辛壬癸子丑寅卯") for _ in range(n))  # noqa: E731
    predicates = [word(3) for _ in range(200)]
    out = []
    for i in range(count):
        name, p = f"{word(3)}{i}", rng.choice(predicates)
        meaning = word(2) if rng.random() < 0.3 else ""
        out.append(Question(f"{name}的{p}是什么", name, p, meaning, word(4)))
    return out


@pytest.mark.parametrize("mode", MODES)
def test_base_holds_every_triple_once_and_is_deterministic(mode: str) -> None:
    questions = rows()
    base = knowledge_base(questions, mode, seed=3)
    assert base == knowledge_base(questions, mode, seed=3)
    if mode != "qa":
        assert base != knowledge_base(questions, mode, seed=4)
    keys = [t[:3] for t in base]
    assert len(set(keys)) == len(keys)
    assert {(q.subject, q.predicate, q.meaning, q.object) for q in questions} <= set(base)


@pytest.mark.parametrize("mode", ["rich", "hard"])
def test_gold_triples_stand_anywhere(mode: str) -> None:
    questions = rows(300)
    base = knowledge_base(questions, mode)
    gold = {(q.subject, q.predicate, q.meaning) for q in questions}
    places = [i / len(base) for i, t in enumerate(base) if t[:3] in gold]
    # A uniform mean has a standard error of 0.29 / sqrt(300).
    assert abs(sum(places) / len(places) - 0.5) < 4 * 0.29 / 300**0.5
    per_name = len(base) / len({t[0] for t in base})
    assert per_name > 3


def test_hard_distractors_resemble_the_question() -> None:
    questions = rows(200)
    rich, hard = (knowledge_base(questions, m) for m in ("rich", "hard"))
    asked = {q.subject: q for q in questions}

    def likeness(base: list[tuple[str, str, str, str]]) -> float:
        wrong = [(asked[s], p) for s, p, _, _ in base if s in asked and asked[s].predicate != p]
        return sum(len(set(p) & set(q.question)) / len(p) for q, p in wrong) / len(wrong)

    assert likeness(hard) > likeness(rich) + 0.02


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data.base='easy': accepted are qa, rich, hard"):
        knowledge_base(rows(2), "easy")
