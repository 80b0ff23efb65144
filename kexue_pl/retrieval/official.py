"""The official KgCLUE score, and the same by segment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kexue_pl.retrieval.lcs import lcs_pairs


class Answer(NamedTuple):
    """A triple as it is handed in: the subject with its meaning in brackets."""

    subject: str
    predicate: str
    object: str


def clean(text: str) -> str:
    """Lower case, whitespace collapsed.

    Example:
        >>> clean(" A\\u3000 b ")
        'a b'
    """
    return " ".join(text.lower().split())


def official_scores(predicted: Sequence[Answer | None], gold: Sequence[Answer]) -> dict[str, float]:
    """Exact match and character F1 in percent: ``em_s`` … ``f1_all``, ``em``, ``f1`` and ``score``.

    F1 = 2 LCS / (|a| + |b|), 0 for two empty texts; ``all`` compares S, P and O joined; ``em`` and ``f1``
    are those of O and score = (em + f1) / 2, as in ``evaluate_f1_em.py`` of CLUEbenchmark/KgCLUE.
    None counts as wrong everywhere.

    Raises:
        ValueError: as many answers as questions are needed, and at least one.

    Example:
        >>> gold = [Answer("甲（乙）", "丙", "丁"), Answer("A", "b", "cd")]
        >>> out = official_scores([Answer("甲", "丙", "丁"), Answer("a", "b", "ce")], gold)
        >>> out["em_s"], out["em"], out["f1"], out["score"]
        (50.0, 50.0, 75.0, 62.5)
    """
    if len(predicted) != len(gold) or not gold:
        raise ValueError(f"{len(predicted)} answers to {len(gold)} questions")
    out: dict[str, float] = {}
    for name, pick in (("s", 0), ("p", 1), ("o", 2), ("all", None)):
        a, b = ([_text(x, pick) for x in side] for side in (predicted, gold))
        lcs = lcs_pairs(a, b).tolist()
        f1 = [2 * n / max(1, len(x) + len(y)) for n, x, y in zip(lcs, a, b, strict=True)]
        exact = [x == y and p is not None for x, y, p in zip(a, b, predicted, strict=True)]
        out[f"em_{name}"] = 100 * sum(exact) / len(gold)
        out[f"f1_{name}"] = 100 * sum(f1) / len(gold)
    out["em"], out["f1"] = out["em_o"], out["f1_o"]
    out["score"] = (out["em"] + out["f1"]) / 2
    return out


def _text(answer: Answer | None, pick: int | None) -> str:
    if answer is None:
        return ""
    return clean("".join(answer)) if pick is None else clean(answer[pick])
