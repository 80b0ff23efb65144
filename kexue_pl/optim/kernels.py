"""One-pass kernels of the EG step size for float32 on a CPU, compiled by numba where asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

# Elements whose squares are added in float32 before they join a float64 sum; they stay in cache.
_CHUNK = 8192
_ONE, _HALF, _ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)
# exp(v) = 2^n exp(r): 1 / ln 2, and ln 2 in two parts whose first has few digits, so n * it is exact.
_PER_LN2, _LN2_HIGH, _LN2_LOW = (
    np.float32(1.442695041),
    np.float32(0.693359375),
    np.float32(-2.1219444e-4),
)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)
_C3, _C4, _C5 = np.float32(1 / 6), np.float32(1 / 24), np.float32(1 / 120)
_C6, _C7 = np.float32(1 / 720), np.float32(1 / 5040)
# Not "nnan" and "ninf": a NaN in a gradient must show in its sums.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


class Kernels(NamedTuple):
    """The compiled loops over flat float32 arrays; each has the equations of its torch passes."""

    sums: Callable[..., tuple[float, float, float]]
    move: Callable[..., None]
    learn: Callable[..., tuple[float, float, float]]
    finish: Callable[..., None]


def _sums(g: Any, d: Any) -> tuple[float, float, float]:
    dot, gg, dd = 0.0, 0.0, 0.0
    for start in range(0, g.size, _CHUNK):
        a, b = g[start : start + _CHUNK], d[start : start + _CHUNK]
        x, y, z = _ZERO, _ZERO, _ZERO
        for i in range(a.size):
            x += a[i] * b[i]
        for i in range(a.size):
            y += a[i] * a[i]
        for i in range(a.size):
            z += b[i] * b[i]
        dot, gg, dd = dot + float(x), gg + float(y), dd + float(z)
    return dot, gg, dd


def _move(k: Any, g: Any, d: Any, rate: Any, low: Any, high: Any) -> None:
    for i in range(k.size):
        up = np.float32(g[i] > _ZERO) - np.float32(g[i] < _ZERO)
        agree = up * (np.float32(d[i] > _ZERO) - np.float32(d[i] < _ZERO))
        k[i] = min(max(k[i] + rate * agree, low), high)


def _finish(p: Any, delta: Any, k: Any, log_scale: Any, kept: Any, undo: Any, write: bool) -> None:
    for i in range(p.size):
        v = min(max(k[i] + log_scale, _LOWEST), _HIGHEST)
        n = np.floor(v * _PER_LN2 + _HALF)
        r = v - n * _LN2_HIGH - n * _LN2_LOW
        q = ((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _HALF
        power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
        factor = (power - _ONE) + power * (r + r * r * q)
        old, new = delta[i], p[i]
        step = old * kept + new
        p[i] = new + factor * step + undo * old
        if write:
            delta[i] = step


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """Compile on the first call (about a second).

    Raises:
        ModuleNotFoundError: if numba is not installed, naming the remedy.
    """
    try:
        from numba import njit  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "eg_step_size: fused=True needs numba: pip install 'kexue_pl[fast]', or set "
            "callbacks.eg_step_size.fused=false"
        ) from error
    compiled = njit(fastmath=_FAST)
    sums, move = compiled(_sums), compiled(_move)

    @compiled
    def learn(k: Any, g: Any, d: Any, rate: Any, low: Any, high: Any) -> tuple[float, float, float]:
        # Two passes, the second from the cache: a NaN anywhere must leave all gains alone.
        dot, gg, dd = sums(g, d)
        if np.isfinite(dot) and np.isfinite(gg) and np.isfinite(dd):
            move(k, g, d, rate, low, high)
        return dot, gg, dd

    return Kernels(sums, move, learn, compiled(_finish))


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels know these tensors: plain, float32, contiguous, on a CPU.

    Example:
        >>> fits(torch.zeros(2)), fits(torch.zeros(2, dtype=torch.float64))
        (True, False)
    """
    for tensor in tensors:
        if type(tensor) not in (Tensor, Parameter) or tensor.dtype != torch.float32:
            return False
        if not (tensor.is_cpu and tensor.is_contiguous()):
            return False
    return True


def fused_sums(gradient: Tensor, direction: Tensor) -> tuple[float, float, float]:
    """``<g, d>``, ``|g|^2`` and ``|d|^2`` in one pass; tensors that ``fits``."""
    return kernels().sums(_flat(gradient), _flat(direction))


def fused_move(
    log_gain: Tensor, gradient: Tensor, direction: Tensor, *, rate: float, low: float, high: float
) -> None:
    """``move_log_gain`` by the sign rule, in one pass; tensors that ``fits``."""
    numbers = (np.float32(v) for v in (rate, low, high))
    kernels().move(_flat(log_gain), _flat(gradient), _flat(direction), *numbers)


def fused_learn(
    log_gain: Tensor, gradient: Tensor, direction: Tensor, *, rate: float, low: float, high: float
) -> tuple[float, float, float]:
    """The sums of ``fused_sums``, then ``fused_move`` if they are finite."""
    numbers = (np.float32(v) for v in (rate, low, high))
    return kernels().learn(_flat(log_gain), _flat(gradient), _flat(direction), *numbers)


def fused_finish(
    parameter: Tensor,
    delta: Tensor,
    log_gain: Tensor,
    *,
    log_scale: float,
    decay: float,
    undo: float,
    write: bool,
) -> None:
    """``finish_step`` with gains, in one pass; tensors that ``fits``.

    Args:
        undo: what minus the old parameter is multiplied with and added: decay * (s - 1).
        write: leave d in ``delta``; otherwise ``delta`` is not touched.
    """
    numbers = (np.float32(v) for v in (log_scale, 1 - decay, undo))
    kernels().finish(_flat(parameter), _flat(delta), _flat(log_gain), *numbers, write)


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().numpy().reshape(-1)
