"""McNemar's test by hand, by brute force and against simulation."""

from __future__ import annotations

import math

import pytest
import torch

from kexue_pl.metrics.mcnemar import mcnemar


def test_by_hand():
    first = torch.tensor([True] * 6 + [False] * 4)
    second = torch.tensor([True] * 5 + [False] + [True] * 3 + [False])
    result = mcnemar(first, second, torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2]))
    assert (result.wins, result.losses) == (3, 1)
    assert math.isclose(result.difference, 0.2)
    assert math.isclose(result.error, math.sqrt(4) / 10)
    assert math.isclose(result.cluster_error, math.sqrt(1 + 1) / 10)  # -1 + 1 + 1 and 1
    assert math.isclose(result.p, 2 * (1 + 4) / 16)


def test_equal_predictions():
    same = torch.tensor([True, False])
    result = mcnemar(same, same)
    assert (result.p, result.difference, result.cluster_error) == (1.0, 0.0, None)


def test_swapping_the_two_changes_the_sign_alone():
    torch.manual_seed(0)
    a, b = torch.rand(2, 200) < 0.5
    there, back = mcnemar(a, b), mcnemar(b, a)
    assert there.difference == -back.difference
    assert (there.p, there.error) == (back.p, back.error)


def test_error_matches_simulation():
    torch.manual_seed(0)
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])  # both, first, second, none
    draws = torch.multinomial(p, 400 * 500, replacement=True).view(400, 500)
    results = [mcnemar(d < 2, (d == 0) | (d == 2)) for d in draws]
    spread = torch.tensor([r.difference for r in results]).std().item()
    # Under the alternative the variance also loses the square of the mean.
    expected = math.sqrt((0.45 - 0.15**2) / 500)
    assert math.isclose(spread, expected, rel_tol=0.1)
    assert math.isclose(results[0].error, math.sqrt(0.45 / 500), rel_tol=0.1)


def test_clusters_of_one_are_no_clusters():
    torch.manual_seed(0)
    a, b = torch.rand(2, 300) < 0.5
    result = mcnemar(a, b, torch.arange(300))
    assert math.isclose(result.error, result.cluster_error)


def test_faulty_shapes():
    with pytest.raises(ValueError, match="same examples"):
        mcnemar(torch.ones(2).bool(), torch.ones(3).bool())
