from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kexue_pl.metrics import expected_calibration_error, platt, platt_probabilities


def data(rows: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    labels = (torch.rand(rows, generator=g) < 0.4).long()
    return torch.randn(rows, generator=g) + 1.5 * labels, labels


def test_equals_a_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    scores, labels = data()
    positives, n = int(labels.sum()), len(labels)
    high, low = (positives + 1) / (positives + 2), 1 / (n - positives + 2)
    # A soft target is a positive of its weight beside a negative of the rest.
    x = np.concatenate([scores, scores])[:, None]
    target = np.where(labels == 1, high, low)
    weights = np.concatenate([target, 1 - target])
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    peer.fit(x, np.repeat([1, 0], n), sample_weight=weights)
    found = platt(scores, labels)
    assert float(found[0]) == pytest.approx(peer.coef_[0, 0], rel=1e-4)
    assert float(found[1]) == pytest.approx(peer.intercept_[0], rel=1e-4)


@given(st.floats(0.1, 50), st.floats(-20, 20))
def test_probabilities_do_not_depend_on_the_scale_of_scores(scale: float, shift: float) -> None:
    scores, labels = data(60)
    scores = scores.double()
    moved = scale * scores + shift
    one = platt_probabilities(scores, platt(scores, labels))
    two = platt_probabilities(moved, platt(moved, labels))
    torch.testing.assert_close(one, two, atol=1e-6, rtol=0)
    assert abs(float(one.mean()) - float(labels.double().mean())) < 0.02


def test_it_mends_what_a_sigmoid_of_cosines_gets_wrong() -> None:
    scores, labels = data(4000)
    squeezed = torch.tanh(scores / 20)
    plain = expected_calibration_error(torch.sigmoid(squeezed), labels)
    mended = expected_calibration_error(
        platt_probabilities(squeezed, platt(squeezed, labels)), labels
    )
    assert mended < 0.03 < 0.1 < plain


def test_edges_stay_finite() -> None:
    separated = platt(torch.tensor([0.0, 0.1, 0.9, 1.0]), torch.tensor([0, 0, 1, 1]))
    assert torch.isfinite(separated).all() and separated[0] > 0
    constant = platt(torch.ones(4), torch.tensor([0, 0, 1, 1]))
    assert constant.tolist() == [0.0, 0.0]
    one_class = platt_probabilities(torch.ones(3), platt(torch.rand(9), torch.ones(9)))
    assert (one_class > 0.8).all() and (one_class < 1).all()
