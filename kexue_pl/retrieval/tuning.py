"""Weights of the parts of a segment score, learned on questions whose predicates were held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.beam_search import segment_logsumexp
from kexue_pl.retrieval.beam_state import Ints

Floats = NDArray[np.float64]
NEWTON_STEPS = 30
RIDGE = 1e-3


class Weights(NamedTuple):
    """f(P) = lexical · lexical(Q, P) + model · (log p_model(P | Q, S) - prior · log prior(P)).

    0 switches a part off. With ``features`` the lexical score is these weights of its nine features
    instead of those the scorer learned by itself: beside a model other weights are right.
    """

    lexical: float = 1.0
    model: float = 0.6
    prior: float = 1.0
    features: tuple[float, ...] | None = None


def log_linear(features: Floats, ptr: Ints, right: Ints) -> Floats:
    """Weights w that make the right candidates most probable under softmax(features @ w).

    Maximises the mean over groups of log softmax, less ``RIDGE`` / 2 |w|², by Newton's method: the
    problem is concave, so the answer is the only one.

    Args:
        features: (N, F) of all candidates.
        ptr: (G + 1,), candidates of group g are ``ptr[g]:ptr[g + 1]``, none of them empty.
        right: (G,) position of the right candidate of each group among all candidates.

    Returns:
        (F,) float64.

    Example:
        >>> x = np.array([[1.0], [0.0], [1.0], [0.0], [1.0], [0.0], [1.0], [0.0]])
        >>> w = log_linear(x, np.array([0, 2, 4, 6, 8]), np.array([0, 2, 4, 7]))
        >>> round(float(w[0]), 2)  # right 3 times of 4: log 3, less the ridge
        1.09
    """
    w = np.zeros(features.shape[1])
    group = np.repeat(np.arange(len(right)), np.diff(ptr))
    objective = _objective(features, ptr, right, w)
    for _ in range(NEWTON_STEPS):
        score = features @ w
        p = np.exp(score - segment_logsumexp(score, ptr)[group])
        mean = np.add.reduceat(p[:, None] * features, ptr[:-1])
        gradient = (features[right] - mean).mean(0) - RIDGE * w
        centred = features - mean[group]
        curvature = (p[:, None] * centred).T @ centred / len(right) + RIDGE * np.eye(len(w))
        step, size = np.linalg.solve(curvature, gradient), 1.0
        while (
            new := _objective(features, ptr, right, w + size * step)
        ) < objective and size > 1e-6:
            size /= 2
        w = w + size * step
        if new - objective < 1e-12:
            break
        objective = new
    return w


def _objective(features: Floats, ptr: Ints, right: Ints, w: Floats) -> float:
    score = features @ w
    return float((score[right] - segment_logsumexp(score, ptr)).mean() - RIDGE / 2 * w @ w)


def tune_weights(
    given: Weights, lexical: Floats, model: Floats, prior: Floats, ptr: Ints, right: Ints
) -> Weights:
    """The parts of ``given`` that are not 0, weighted anew; a model that only harms is switched off.

    Args:
        given: which parts take part; a weight of 0 stays 0.
        lexical: (N, F) features of all candidates.
        model, prior: (N,) their log p by the model, and its log prior.
        ptr, right: groups and right candidates as in ``log_linear``.

    Example:
        >>> x = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
        >>> groups = np.array([0, 2, 4, 6, 8]), np.array([0, 2, 4, 7])
        >>> found = tune_weights(Weights(1, 1, 0), x[:, None], 0 * x, 0 * x, *groups)
        >>> [round(w, 2) for w in found.features], found.model, found.prior
        ([1.09], 0.0, 0.0)
    """
    size = lexical.shape[1] if given.lexical else 0
    columns = [lexical[:, :size]]
    if given.model:
        columns += [model[:, None]]
        columns += [-prior[:, None]] if given.prior else []
    if not (size or given.model):
        return given
    w = log_linear(np.concatenate(columns, 1), ptr, right).tolist()
    if given.model and w[size] <= 0:
        if not size:
            return given
        return tune_weights(given._replace(model=0.0), lexical, model, prior, ptr, right)
    if given.model and given.prior and w[-1] <= 0:
        return tune_weights(given._replace(prior=0.0), lexical, model, prior, ptr, right)
    return Weights(
        lexical=1.0 if size else 0.0,
        model=w[size] if given.model else 0.0,
        prior=w[-1] / w[size] if given.model and given.prior else 0.0,
        features=tuple(w[:size]) if size else None,
    )
