"""Verdicts follow the interval of paired differences, and say so when it settles nothing."""

from __future__ import annotations

import math

import pytest
from scipy.stats import ttest_rel

from kexue_pl.report.verdicts import Difference, judge, paired_difference, summary_of


def test_interval_agrees_with_scipys_paired_test() -> None:
    left, right = {0: 0.71, 1: 0.74, 2: 0.69, 3: 0.8}, {0: 0.7, 1: 0.71, 2: 0.7, 3: 0.72}
    found = paired_difference(left, right)
    told = ttest_rel([left[s] for s in range(4)], [right[s] for s in range(4)])
    low, high = told.confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.mean / found.error == pytest.approx(told.statistic)


def test_only_seeds_of_both_are_paired() -> None:
    assert paired_difference({0: 1.0, 1: 2.0, 5: 100.0}, {0: 0.0, 1: 0.0}).n == 2
    with pytest.raises(ValueError, match="no seed is in both"):
        paired_difference({0: 1.0}, {1: 1.0})


@pytest.mark.parametrize(
    ("low", "high", "expect", "margin", "verdict"),
    [
        (0.1, 0.3, "greater", 0.0, "holds"),
        (-0.1, 0.3, "greater", 0.0, "not settled"),
        (-0.3, -0.1, "greater", 0.0, "does not hold"),
        (-0.3, -0.1, "greater", -0.5, "holds"),
        (-0.3, -0.1, "less", 0.0, "holds"),
        (0.0, 0.0, "at_most", 0.0, "holds"),
        (1.0, 1.0, "at_most", 0.0, "does not hold"),
        (-0.02, 0.02, "within", 0.03, "holds"),
        (-0.02, 0.05, "within", 0.03, "not settled"),
        (0.04, 0.05, "within", 0.03, "does not hold"),
        (math.nan, math.nan, "greater", 0.0, "not settled"),
    ],
)
def test_verdict(low: float, high: float, expect: str, margin: float, verdict: str) -> None:
    assert judge(Difference((low + high) / 2, 0.1, low, high, 3), expect, margin) == verdict


def test_an_article_holds_in_part_if_some_claim_does() -> None:
    assert summary_of(["holds", "holds"]) == "holds"
    assert summary_of(["holds", "does not hold"]) == "holds in part"
    assert summary_of(["not settled", "does not hold"]) == "not settled"
    assert summary_of(["does not hold"]) == "does not hold"
