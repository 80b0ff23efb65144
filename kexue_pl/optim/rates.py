"""Meta learning rates: how fast the step size itself may move."""

from __future__ import annotations


def meta_rate(
    rate: float | str, *, step: int, horizon: int | None, reach: float, most: float
) -> float:
    r"""The rate at ``step``: a constant, or "auto" from the horizon T.

    .. math:: \gamma_t = \min\Bigl(\frac{\text{reach}}T,\ \text{most}\Bigr)
              \Bigl(1-\frac tT\Bigr)^3

    With normalised alignment the logarithm moves by at most gamma a step, so a rate proportional
    to 1/T corrects the same factor whatever the length of the run. It falls early because what
    there is to learn comes early: gradients agree strongly until the step size is right. Near the
    noise floor they contradict the last steps a little for *any* step size, since each step undoes
    a part of the noise in the one before (a step d along a curvature h: the expected inner product
    of the next gradient with it is -h |d|^2 / 2); a rate still large would only shrink the steps.

    Args:
        rate: a number >= 0, or "auto".
        step: t, updates done.
        horizon: T, updates of the whole run; needed for "auto".
        reach: how far the logarithm could move in all at full agreement.
        most: upper end of the rate, for short runs.

    Raises:
        ValueError: if "auto" has no horizon.

    Example:
        >>> meta_rate("auto", step=0, horizon=1380, reach=138.0, most=0.2)
        0.1
        >>> meta_rate("auto", step=690, horizon=1380, reach=138.0, most=0.2)
        0.0125
        >>> meta_rate(0.3, step=5, horizon=None, reach=138.0, most=0.2)
        0.3
    """
    if not isinstance(rate, str):
        return rate
    if horizon is None or horizon < 1:
        raise ValueError(
            "eg_step_size: scale_lr='auto' or gain_lr='auto' needs the number of optimizer steps; "
            "pass horizon=..., set trainer.max_steps, or give the rates as numbers"
        )
    return min(reach / horizon, most) * max(0.0, 1 - step / horizon) ** 3
