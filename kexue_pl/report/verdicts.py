"""What runs over seeds say about a claim: paired differences, their interval, a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import mean, stdev

__all__ = ["Difference", "judge", "paired_difference", "summary_of"]


@dataclass(frozen=True)
class Difference:
    """Mean of n differences, its standard error, and the 95 % interval of Student's t."""

    mean: float
    error: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return f"{self.mean:+.4g} (1 value)"
        return f"{self.mean:+.4f} ± {self.error:.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def paired_difference(
    left: Mapping[int, float], right: Mapping[int, float] | float = 0.0
) -> Difference:
    """left - right over the seeds that both have.

    d = mean_i (l_i - r_i), error = s / √n, interval d ± t_{0.975, n-1} error. One value has no
    error; its interval is the point itself, which suits counts and exact figures only.

    Args:
        left: value by seed.
        right: value by seed, or one number.

    Raises:
        ValueError: no seed is in both.

    >>> print(paired_difference({0: 1.0, 1: 3.0}, {0: 0.0, 1: 0.0}))
    +2.0000 ± 1.0000 [-10.7062, +14.7062]
    """
    from scipy.stats import t

    seeds = sorted(set(left) & set(right)) if isinstance(right, Mapping) else sorted(left)
    if not seeds:
        raise ValueError("no seed is in both series")
    values = [left[s] - (right[s] if isinstance(right, Mapping) else right) for s in seeds]
    middle = mean(values)
    if len(values) == 1:
        return Difference(middle, math.nan, middle, middle, 1)
    error = stdev(values) / math.sqrt(len(values))
    half = float(t.ppf(0.975, len(values) - 1)) * error
    return Difference(middle, error, middle - half, middle + half, len(values))


def judge(found: Difference, expect: str, margin: float = 0.0) -> str:
    """ "holds", "does not hold" or "not settled", by the whole interval.

    Args:
        found: left - right.
        expect: `greater` (left - right > margin), `less` (< margin), `at_most` (<= margin) or
            `within` (|left - right| <= margin).
        margin: in the unit of the values.

    >>> judge(Difference(2.0, 0.1, 1.8, 2.2, 5), "greater", 1.0)
    'holds'
    >>> judge(Difference(2.0, 0.1, 1.8, 2.2, 5), "within", 2.0)
    'not settled'
    """
    low, high = found.low, found.high
    if math.isnan(low):
        return "not settled"
    yes, no = {
        "greater": (low > margin, high <= margin),
        "less": (high < margin, low >= margin),
        "at_most": (high <= margin, low > margin),
        "within": (-margin <= low and high <= margin, low > margin or high < -margin),
    }[expect]
    return "holds" if yes else "does not hold" if no else "not settled"


def summary_of(verdicts: list[str]) -> str:
    """One word for an article: its claims together.

    >>> summary_of(["holds", "not settled"])
    'holds in part'
    """
    kinds = set(verdicts)
    if len(kinds) == 1:
        return verdicts[0]
    return "holds in part" if "holds" in kinds else "not settled"
