"""Weights of the parts: the optimum of a concave problem, found and checked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from kexue_pl.retrieval.beam_search import segment_logsumexp
from kexue_pl.retrieval.tuning import RIDGE, Weights, log_linear, tune_weights


def problem(seed: int = 0, groups: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    width = rng.integers(2, 9, groups)
    ptr = np.append(0, np.cumsum(width))
    features = rng.normal(size=(int(ptr[-1]), 3))
    score = features @ [1.5, 0.5, -0.7] + rng.gumbel(size=len(features))
    right = np.array([a + int(np.argmax(score[a:b])) for a, b in pairwise(ptr)])
    return features, ptr, right


def objective(w: np.ndarray, features: np.ndarray, ptr: np.ndarray, right: np.ndarray) -> float:
    score = features @ w
    return float((score[right] - segment_logsumexp(score, ptr)).mean() - RIDGE / 2 * w @ w)


def test_weights_of_a_log_linear_choice_are_recovered() -> None:
    w = log_linear(*problem(groups=4000))
    assert w == pytest.approx([1.5, 0.5, -0.7], abs=0.1)


def test_the_optimum_is_one() -> None:
    data = problem()
    w = log_linear(*data)
    best = objective(w, *data)
    for k in range(3):
        for step in (-0.02, 0.02):
            moved = w.copy()
            moved[k] += step
            assert objective(moved, *data) < best


def test_separable_questions_stay_finite() -> None:
    w = log_linear(np.array([[1.0], [0.0]]), np.array([0, 2]), np.array([0]))
    assert np.isfinite(w).all() and w[0] > 3


def test_parts_that_harm_or_are_off_take_no_part() -> None:
    (features, ptr, right) = problem()
    lexical, model, prior = features[:, :1], features[:, 1], features[:, 2]
    found = tune_weights(Weights(1, 1, 1), lexical, model, prior, ptr, right)
    assert found.features is not None and found.features[0] > 1
    assert found.model > 0.2 and found.prior * found.model == pytest.approx(0.7, abs=0.25)
    assert tune_weights(Weights(1, 1, 0), lexical, model, prior, ptr, right).prior == 0
    assert tune_weights(Weights(1, 0, 1), lexical, model, prior, ptr, right)[1:3] == (0, 0)
    assert tune_weights(Weights(0, 1, 0), lexical, model, prior, ptr, right).features is None
    assert tune_weights(Weights(1, 1, 1), lexical, model, -prior, ptr, right).prior == 0
    assert tune_weights(Weights(1, 1, 0), lexical, -model, prior, ptr, right).model == 0
    off = tune_weights(Weights(0, 1, 0), lexical, -model, prior, ptr, right)
    assert off == Weights(0, 1, 0)


def test_tuned_features_are_those_of_the_problem() -> None:
    features, ptr, right = problem(groups=4000)
    zero = np.zeros(len(features))
    found = tune_weights(Weights(1, 0, 0), features, zero, zero, ptr, right)
    assert found.features == pytest.approx((1.5, 0.5, -0.7), abs=0.1)
    assert found == Weights(1, 0, 0, found.features)
