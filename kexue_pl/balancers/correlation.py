"""The scale-free form of a Gram matrix that every exact solver works on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]


def correlation(gram: Tensor) -> tuple[Array, Array]:
    r"""Correlations and norms: :math:`C = D^{-1/2} G D^{-1/2}`, :math:`d_i = \sqrt{G_{ii}}`.

    A solver on C sees the angles only, so no absolute tolerance meets a small or large gradient.

    Args:
        gram: (n, n) with positive finite diagonal.

    Returns:
        (n, n) C and (n,) d, float64 NumPy arrays.

    >>> import torch
    >>> c, d = correlation(torch.tensor([[4.0, 3.0], [3.0, 9.0]]))
    >>> c.tolist(), d.tolist()
    ([[1.0, 0.5], [0.5, 1.0]], [2.0, 3.0])
    """
    g: Array = gram.double().numpy()
    d = np.sqrt(np.diag(g))
    return g / d[:, None] / d[None, :], d


def root(corr: Array) -> Array:
    r"""A square root R of the correlation matrix, :math:`R^\top R = C`: its columns are unit gradients.

    >>> import numpy as np
    >>> r = root(np.array([[1.0, 0.6], [0.6, 1.0]]))
    >>> (r.T @ r).round(12).tolist()
    [[1.0, 0.6], [0.6, 1.0]]
    """
    values, vectors = np.linalg.eigh(corr)
    out: Array = (vectors * np.sqrt(np.clip(values, 0, None))).T
    return out


def nonnegative(matrix: Array, target: Array) -> Array:
    r"""Non-negative least squares, :math:`\arg\min_{x \ge 0} \lVert A x - b\rVert`, by active sets.

    >>> import numpy as np
    >>> nonnegative(np.eye(2), np.array([2.0, -1.0])).tolist()
    [2.0, 0.0]
    """
    from scipy.optimize import nnls

    solution: Any = nnls(matrix, target, maxiter=50 * matrix.shape[1])[0]
    out: Array = np.asarray(solution, dtype=np.float64)
    return out
