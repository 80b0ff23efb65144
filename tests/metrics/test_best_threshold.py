"""The sweep against brute force, scikit-learn and floating-point traps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from kexue_pl.metrics import BestThreshold, at_threshold, best_threshold


def random_case(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    s = rng.normal(size=n).astype(np.float32)
    s = np.round(s, 1) if seed % 2 else s
    s[:] = 0.3 if seed % 7 == 0 else s
    return s, (rng.random(n) < [0.5, 0.05, 1.0, 0.0][seed % 4]).astype(int)


@pytest.mark.parametrize("block", range(10))
def test_equals_brute_force(block):
    for seed in range(40 * block, 40 * block + 40):
        s, y = random_case(seed)
        best = best_threshold(s, y)
        candidates = [*np.unique(s).tolist(), -np.inf]
        every = [at_threshold(s, y, t) for t in candidates]
        for name in ("accuracy", "f1", "mcc"):
            assert best[name] == pytest.approx(max(figures[name] for figures in every), abs=1e-12)
            reached = at_threshold(s, y, best[f"{name}_threshold"])
            assert reached[name] == pytest.approx(best[name], abs=1e-12)
        at_f1 = at_threshold(s, y, best["f1_threshold"])
        assert (at_f1["precision"], at_f1["recall"]) == (best["precision"], best["recall"])
        assert math.isfinite(best["accuracy_threshold"])


@pytest.mark.parametrize("seed", [0, 1, 4, 5, 8, 9, 12, 13])
def test_figures_of_scikit_learn(seed):
    s, y = random_case(seed)
    if len(set(y.tolist())) < 2:
        y[0] = 1 - y[0]
    best = best_threshold(s, y)
    called = (s > best["f1_threshold"]).astype(int)
    assert best["f1"] == pytest.approx(sk.f1_score(y, called, zero_division=0))
    assert best["precision"] == pytest.approx(sk.precision_score(y, called, zero_division=0))
    assert best["recall"] == pytest.approx(sk.recall_score(y, called))
    called = (s > best["mcc_threshold"]).astype(int)
    assert best["mcc"] == pytest.approx(sk.matthews_corrcoef(y, called))
    called = (s > best["accuracy_threshold"]).astype(int)
    assert best["accuracy"] == pytest.approx(sk.accuracy_score(y, called))
    assert best["average_precision"] == pytest.approx(sk.average_precision_score(y, s))
    assert best["roc_auc"] == pytest.approx(sk.roc_auc_score(y, s))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_threshold_separates_neighbouring_scores(dtype):
    low = torch.tensor(0.7).to(dtype)
    for _ in range(50):
        high = torch.nextafter(low, torch.ones((), dtype=dtype))
        scores = torch.stack([low, high])
        t = best_threshold(scores, [0, 1])["accuracy_threshold"]
        working = scores if dtype == torch.float64 else scores.float()
        assert (working > t).tolist() == [False, True]
        low = high


def test_a_plain_midpoint_would_not():
    low = torch.tensor(0.7)
    wrong = 0
    for _ in range(200):
        high = torch.nextafter(low, torch.tensor(1.0))
        middle = (low.item() + high.item()) / 2
        wrong += (torch.stack([low, high]) > middle).tolist() != [False, True]
        low = high
    assert wrong > 20


def test_highest_of_equal_thresholds():
    # One positive above or two pairs called: both are right in 2 of 3.
    best = best_threshold([3.0, 2.0, 1.0], [1, 0, 1])
    assert best["accuracy"] == pytest.approx(2 / 3)
    assert best["accuracy_threshold"] == 2.5


def test_infinite_scores():
    best = best_threshold([math.inf, -math.inf, 0.0], [1, 0, 0])
    assert best["accuracy"] == 1.0
    assert best["accuracy_threshold"] == 0.0


def test_strictly_increasing_maps_change_thresholds_only():
    s, y = random_case(4)
    before, after = best_threshold(s, y), best_threshold(np.exp(s.astype(float)), y)
    for name in ("accuracy", "f1", "mcc", "average_precision", "roc_auc"):
        assert before[name] == pytest.approx(after[name])
    assert before["accuracy"] != best_threshold(-s, y)["accuracy"]


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "no rows"),
        ([0.1, math.nan], [0, 1], "NaN in row 1 of the first"),
        ([0.1, 0.2], [0, 2], "label 2 in row 1"),
        ([0.1, 0.2], [0], r"got shapes \(2,\) and \(1,\)"),
    ],
)
def test_faults_are_named(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        best_threshold(scores, labels)


def test_grades_with_a_first_positive_one():
    s = [0.9, 0.5, 0.4, 0.1]
    assert best_threshold(s, [5, 1, 3, 0], positive_from=3) == best_threshold(s, [1, 0, 1, 0])


def test_large_tied_sets_do_not_overflow():
    y = torch.arange(200_000) % 2
    best = best_threshold(y.float(), y)
    assert best["mcc"] == pytest.approx(1.0)
    assert best["accuracy"] == best["f1"] == best["roc_auc"] == 1.0


def test_metric_equals_the_function():
    s, y = random_case(4)
    metric = BestThreshold()
    for part in (slice(0, 5), slice(5, None)):
        metric.update(torch.tensor(s[part]), torch.tensor(y[part]))
    assert metric.compute() == best_threshold(s, y)
