"""Geometric mean of the losses."""

from __future__ import annotations

from kexue_pl.balancers.generalized_mean import GeneralizedMean


class Geometric(GeneralizedMean):
    r"""Minimise the geometric mean of the losses.

    .. math:: L = \Big(\prod_i L_i\Big)^{1/T}, \quad a_i = L / (T L_i)

    Article 8870 (kexue.fm/archives/8870); the limit :math:`\gamma \to 0` of the power mean, and its
    only member that is free of each task's scale. It needs losses that cannot reach 0 (one task
    would take everything), and a constant added to one loss takes that task's weight away.

    Raises:
        ValueError: a loss is zero or negative.

    >>> import torch
    >>> [round(w, 4) for w in Geometric().weights(None, torch.tensor([1.0, 4.0])).tolist()]
    [1.0, 0.25]
    """

    def __init__(self) -> None:
        super().__init__(gamma=0.0)
