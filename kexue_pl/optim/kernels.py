"""One-pass kernels of the EG step size for float32 on a CPU, compiled by numba where asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
    """The compiled loops over all tensors of a step at once, which costs one call from Python.

    Each takes the addresses of its tensors (rows x operands), their sizes and a table of numbers.
    """

    sums: Callable[..., None]
    move: Callable[..., None]
    learn: Callable[..., None]
    finish: Callable[..., None]
    finish_adam: Callable[..., None]


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


def _expm1(exponent: Any) -> Any:
    v = min(max(exponent, _LOWEST), _HIGHEST)
    n = np.floor(v * _PER_LN2 + _HALF)
    r = v - n * _LN2_HIGH - n * _LN2_LOW
    q = ((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _HALF
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (power - _ONE) + power * (r + r * r * q)


def _finishers(compiled: Callable[..., Any]) -> tuple[Any, Any]:
    """Ends of a step; a compiled function calls only what is compiled, so they are made here."""
    expm1 = compiled(_expm1)

    def finish(
        p: Any, delta: Any, k: Any, log_scale: Any, kept: Any, undo: Any, write: Any
    ) -> None:
        for i in range(p.size):
            factor = expm1(k[i] + log_scale)
            old, new = delta[i], p[i]
            step = old * kept + new
            p[i] = new + factor * step + undo * old
            if write:
                delta[i] = step

    def finish_adam(p: Any, k: Any, m: Any, v: Any, rate: Any, root: Any, eps: Any) -> None:
        for i in range(p.size):
            p[i] -= expm1(k[i]) * (rate * m[i] / (np.sqrt(v[i]) * root + eps))

    return compiled(finish), compiled(finish_adam)


@lru_cache(maxsize=1)
def kernels() -> Kernels:
    """Compile on the first call (a second or two).

    Raises:
        ModuleNotFoundError: if numba is not installed, naming the remedy.
    """
    try:
        from numba import carray, njit  # type: ignore
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "eg_step_size: fused=True needs numba: pip install 'kexue_pl[fast]', or set "
            "callbacks.eg_step_size.fused=false"
        ) from error
    # Division as numpy does it: a check for zero would keep loops from being vectorised.
    compiled, at = njit(fastmath=_FAST, error_model="numpy"), _pointer()
    sums, move = compiled(_sums), compiled(_move)
    finish, finish_adam = _finishers(compiled)

    @njit
    def flat(address: Any, size: Any) -> Any:
        return carray(at(address), size, np.float32)

    @njit
    def all_sums(where: Any, sizes: Any, found: Any) -> None:
        for j in range(sizes.size):
            n = sizes[j]
            found[j] = sums(flat(where[j, 0], n), flat(where[j, 1], n))

    @njit
    def all_moves(where: Any, sizes: Any, numbers: Any) -> None:
        for j in range(sizes.size):
            n, (rate, low, high) = sizes[j], numbers[j]
            move(flat(where[j, 0], n), flat(where[j, 1], n), flat(where[j, 2], n), rate, low, high)

    @njit
    def all_learn(where: Any, sizes: Any, numbers: Any, found: Any) -> None:
        # Two passes a tensor, the second from the cache: a NaN anywhere must leave its gains alone.
        for j in range(sizes.size):
            row = slice(j, j + 1)
            all_sums(where[row, 1:], sizes[row], found[row])
            if np.isfinite(found[j].sum()):
                all_moves(where[row], sizes[row], numbers[row])

    @njit
    def all_finish(where: Any, sizes: Any, numbers: Any, write: bool) -> None:
        for j in range(sizes.size):
            n, (log_scale, kept, undo) = sizes[j], numbers[j]
            p, delta, k = flat(where[j, 0], n), flat(where[j, 1], n), flat(where[j, 2], n)
            finish(p, delta, k, log_scale, kept, undo, write)

    @njit
    def all_finish_adam(where: Any, sizes: Any, numbers: Any) -> None:
        for j in range(sizes.size):
            n, (rate, root, eps) = sizes[j], numbers[j]
            p, k = flat(where[j, 0], n), flat(where[j, 1], n)
            finish_adam(p, k, flat(where[j, 2], n), flat(where[j, 3], n), rate, root, eps)

    return Kernels(all_sums, all_moves, all_learn, all_finish, all_finish_adam)


def _pointer() -> Any:
    """An address as a pointer, for compiled code."""
    from numba.core import cgutils, types  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.extending import intrinsic  # type: ignore[import-not-found,import-untyped,unused-ignore]

    @intrinsic
    def pointer(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], cgutils.voidptr_t)

        return types.voidptr(address), generate

    return pointer


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


def fused_sums(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[list[float]]:
    """``<g, d>``, ``|g|^2`` and ``|d|^2`` of each pair in one pass; tensors that ``fits``."""
    found = np.empty((len(pairs), 3))
    kernels().sums(*_places(pairs), found)
    sums: list[list[float]] = found.tolist()
    return sums


def fused_move(
    log_gain: Tensor, gradient: Tensor, direction: Tensor, *, rate: float, low: float, high: float
) -> None:
    """``move_log_gain`` by the sign rule, in one pass; tensors that ``fits``."""
    numbers = np.array([(rate, low, high)], dtype=np.float32)
    kernels().move(*_places([(log_gain, gradient, direction)]), numbers)


def fused_learn(
    rows: Sequence[tuple[Tensor, Tensor, Tensor]],
    *,
    rates: Sequence[float],
    low: float,
    high: float,
) -> list[list[float]]:
    """The sums of ``fused_sums``, and ``fused_move`` where they are finite.

    Args:
        rows: (log_gain, gradient, direction) of each tensor, that ``fits``.
        rates: of each tensor.
        low, high: bounds of the logarithm.
    """
    found = np.empty((len(rows), 3))
    numbers = np.array([(rate, low, high) for rate in rates], dtype=np.float32)
    kernels().learn(*_places(rows), numbers, found)
    sums: list[list[float]] = found.tolist()
    return sums


def fused_finish(
    rows: Sequence[tuple[Tensor, Tensor, Tensor]],
    numbers: Sequence[tuple[float, float]],
    *,
    write: bool,
) -> None:
    """``finish_step`` with gains, in one pass; tensors that ``fits``.

    Args:
        rows: (parameter, delta, log_gain) of each tensor.
        numbers: (log_scale, decay) of each tensor.
        write: leave d in ``delta``; otherwise ``delta`` is not touched.
    """
    table = [(log, 1 - decay, decay * math.expm1(log)) for log, decay in numbers]
    kernels().finish(*_places(rows), np.array(table, dtype=np.float32), write)


def fused_finish_adam(
    rows: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
    numbers: Sequence[tuple[float, float, float]],
) -> None:
    r"""Gains on a step of Adam, ``theta -= (p - 1) a m / (b sqrt(v) + eps)``, in one pass.

    The step is computed again from the averages that made it, which reads less memory than a copy
    of the old parameters that was written and read for it. Tensors that ``fits``.

    Args:
        rows: (parameter, log_gain, exp_avg, exp_avg_sq) of each tensor.
        numbers: (a, b, eps) of each tensor.
    """
    kernels().finish_adam(*_places(rows), np.array(numbers, dtype=np.float32))


def _places(rows: Sequence[Sequence[Tensor]]) -> tuple[Any, Any]:
    where = [[tensor.data_ptr() for tensor in row] for row in rows]
    sizes = [row[0].numel() for row in rows]
    return np.array(where, dtype=np.int64), np.array(sizes, dtype=np.int64)
