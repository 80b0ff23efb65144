"""Spearman and Pearson against scipy, also where torchmetrics goes wrong."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kexue_pl.metrics import Pearson, Spearman, mean_ranks, pearson, spearman


def pairs(n, grades, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, grades, n) if grades else rng.normal(size=n)
    return (rng.normal(size=n) + 0.3 * y).astype(np.float32), y


@pytest.mark.parametrize("grades", [0, 2, 6])
@pytest.mark.parametrize("n", [3, 50, 5000])
def test_equals_scipy(n, grades):
    x, y = pairs(n, grades, seed=1)
    x = np.round(x, 1)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    want = stats.pearsonr(x.astype(float), y.astype(float))[0]
    assert pearson(x, y) == pytest.approx(want, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("grades", [2, 6])
def test_equals_scipy_at_a_million_rows(grades):
    x, y = pairs(10**6, grades)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-9)


def test_no_overflow_where_ranks_of_ties_pass_32_bits():
    y = torch.zeros(100_000)
    y[:50_000] = 1
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) + 0.5 * y
    assert spearman(x, y) > 0.6  # torchmetrics 1.9: -0.65


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_properties(rows):
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows))
    ranks = stats.rankdata(x.numpy())
    assert mean_ranks(x).tolist() == ranks.tolist()
    r = spearman(x, y)
    if math.isnan(r):
        assert len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1
        return
    assert -1 <= r <= 1
    assert spearman(y, x) == pytest.approx(r, abs=1e-12)
    assert spearman(-x, y) == pytest.approx(-r, abs=1e-12)
    assert spearman(torch.exp(x), y**3) == pytest.approx(r, abs=1e-12)


def test_only_increasing_maps_keep_it():
    x, y = pairs(100, 0)
    assert spearman(x**2, y) != pytest.approx(spearman(x, y), abs=0.01)


@pytest.mark.parametrize("function", [spearman, pearson])
def test_constant_side_gives_nan_and_a_warning(function, caplog):
    with caplog.at_level(logging.WARNING):
        assert math.isnan(function([1.0, 1.0], [0, 1]))
        assert math.isnan(function([0.0, 1.0], [2, 2]))
        assert math.isnan(function([0.0], [2]))
    assert "first argument (2 rows) is constant" in caplog.text
    assert "second argument (2 rows) is constant" in caplog.text


def test_perfect_match_has_no_bias():
    assert spearman([1, 2, 3, 4], [10, 20, 30, 45]) == pytest.approx(1.0, abs=1e-15)


def test_the_arguments_are_left_alone():
    x, y = torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    pearson(x, y)
    assert x.tolist() == [1, 2, 4]
    assert y.tolist() == [1, 2, 3]


def test_nan_is_named():
    with pytest.raises(ValueError, match="spearman: NaN in row 1 of the second argument"):
        spearman([0.0, 1.0], [0.0, math.nan])


@pytest.mark.parametrize(("metric", "function"), [(Spearman, spearman), (Pearson, pearson)])
def test_metric_equals_the_function(metric, function):
    x, y = pairs(40, 3)
    whole = metric()
    for part in (slice(0, 7), slice(7, None)):
        whole.update(torch.tensor(x[part]), torch.tensor(y[part]))
    assert whole.compute() == function(x, y)
