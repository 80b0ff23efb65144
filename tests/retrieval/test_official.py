"""The official figures, by hand."""

from __future__ import annotations

import pytest

from kexue_pl.retrieval.official import Answer, official_scores

GOLD = [
    Answer("刘晓华（教授）", "主讲课程", "《固体物理》"),
    Answer("A Cat", "Color", "Dark  Blue"),
    Answer("甲", "乙", ""),
    Answer("甲", "乙", "丙"),
]


def test_three_decimals_by_hand() -> None:
    predicted = [
        Answer("刘晓华（教授）", "课程", "固体物理"),
        Answer("a cat", "COLOR", "dark blue"),
        Answer("甲", "乙", ""),
        None,
    ]
    out = official_scores(predicted, GOLD)
    # S: exact in 3 of 4. P: 2*2/(4+2) = 2/3, then 1, 1, 0. O: 2*4/(6+4) = 0.8, 1, two empty 0, 0.
    assert out["em_s"] == 75.0 and out["f1_s"] == 75.0
    assert out["em_p"] == 50.0 and out["f1_p"] == pytest.approx(100 * (2 / 3 + 2) / 4)
    assert out["em_o"] == out["em"] == 50.0 and out["f1_o"] == out["f1"] == pytest.approx(45.0)
    assert round(out["score"], 3) == 47.5
    # All: 刘晓华（教授）课程固体物理 against 刘晓华（教授）主讲课程《固体物理》: 13 common of 13 + 17.
    whole = 2 * 13 / (13 + 17)
    assert out["f1_all"] == pytest.approx(100 * (whole + 1 + 1) / 4) and out["em_all"] == 50.0


def test_nothing_found_is_wrong_even_where_the_gold_is_empty() -> None:
    out = official_scores([None], [Answer("", "", "")])
    assert out["score"] == out["em_s"] == out["f1_all"] == 0


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 answers to 4 questions"):
        official_scores([None], GOLD)
