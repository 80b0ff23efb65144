"""The one attention function that all scalings and positions share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.attention.positions.base import Positions
from kexue_pl.attention.scaling import Scaling
from kexue_pl.attention.standard import Standard
from kexue_pl.attention.visible import PerMask, additive_mask, count_visible, visible_mask

ROWS = 128
"""Query rows whose logits exist at one time where no fused kernel applies."""

_PLAIN = Standard()


@dataclass
class Call:
    """One call of the attention function, as observers see it before the product.

    ``query`` (B, H, Q, d) and ``key`` (B, Hk, K, d) hold their positions and normalisations, not
    yet the scaling; ``n`` is the count of visible keys; ``scale`` the model's own constant (1 for
    absolute scalings); ``bias`` what is added to the scaled logits.
    """

    module: nn.Module
    scaling: Scaling
    positions: Positions
    query: Tensor
    key: Tensor
    mask: Tensor | None
    bias: Tensor | None
    causal: bool
    offset: int
    scale: float
    n: Tensor

    def multiplier(self) -> Tensor:
        """What the scaling now puts on the queries beside ``scale``, as (B, H, Q, 1) or less."""
        counts = self.n.double() if self.query.dtype == torch.float64 else self.n
        return _rule_at(counts, self.scaling, self.query.shape[-1])


class ScaledAttention:
    """Attention over PyTorch's SDPA with a scaling and positions, called by transformers' models.

    Built by :func:`kexue_pl.attention.register`. The scaling multiplies the queries, so biases stay
    as they are and no n x n tensor is made; where every row sees the same number of keys it becomes
    part of SDPA's ``scale``. A layer with an ``attention_scaling`` of its own (learned or
    calibrated, see :func:`kexue_pl.attention.attach`) uses that one.

    Attributes:
        calls: how often a model called the function (not counted while compiling).
        observers: functions that are given every :class:`Call` before its scaling is looked up.
    """

    def __init__(self, name: str, scaling: Scaling, positions: Positions | None = None) -> None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        self.name = name
        self.scaling = scaling
        self.positions = positions if positions is not None else Positions()
        self.calls = 0
        self.observers: list[Callable[[Call], None]] = []
        self._counted = PerMask(count_visible)
        self._additive = PerMask(additive_mask)
        self._multiplied = PerMask(_multiplier)
        self._unmasked = lru_cache(maxsize=4)(_unmasked)
        self._equal = lru_cache(maxsize=4)(_equal)
        self._sdpa: Callable[..., tuple[Tensor, None]] = sdpa_attention_forward

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        position_bias: Tensor | None = None,
        **extra: Any,
    ) -> tuple[Tensor, None]:
        """Attention output (B, Q, H, d) and None, as transformers' interface asks.

        Args:
            module: the attention layer that calls.
            query: (B, H, Q, d).
            key: (B, Hk, K, d), Hk a divisor of H.
            value: (B, Hk, K, d).
            attention_mask: (B or 1, H or 1, Q or 1, K), bool or additive float, or None.
            dropout: probability on the attention weights.
            scaling: the model's own constant; None = ``1/sqrt(d)``.
            is_causal: overrides the layer's own ``is_causal``.
            position_bias: (1 or B, H, Q, K) added to the logits, unscaled.
            **extra: whatever the model hands on.
        """
        if not torch.compiler.is_compiling():
            self.calls += 1
        call = self._describe(module, query, key, attention_mask, scaling, is_causal, position_bias)
        for observe in self.observers:
            observe(call)
        query, scale = self._scaled(call)
        if type(call.positions).logits is not Positions.logits or _short_in_bfloat16(query, key):
            return _attend_in_chunks(call, query, value, scale, dropout), None
        mask = attention_mask
        if mask is not None and mask.dtype == torch.bool and call.bias is None and _on_cpu(query):
            # The kernel would turn the booleans into this in every layer, and keep each copy.
            mask = self._additive(mask, query.dtype)
        return self._sdpa(
            module, query, call.key, value, mask, dropout=dropout, scaling=scale,
            is_causal=call.causal, position_bias=call.bias, **extra,
        )  # fmt: skip

    def _describe(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        mask: Tensor | None,
        scale: float | None,
        causal: bool | None,
        bias: Tensor | None,
    ) -> Call:
        rule = self._rule(module)
        queries, keys = query.shape[2], key.shape[2]
        causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
        causal = causal and mask is None and queries > 1
        offset = 0 if causal else keys - queries
        if mask is None:
            mode = torch.is_inference_mode_enabled()
            compiling = torch.compiler.is_compiling()
            count = _unmasked if compiling else self._unmasked
            n = count(queries, keys, causal, query.device, mode)
        else:
            n = self._counted(mask)
        query, key = rule.transform(query, key)
        positions = self.positions.in_training() if module.training else self.positions
        query, key = positions.rotate(query, key, offset)
        distance = positions.bias(query, key, offset)
        if distance is not None:
            bias = distance if bias is None else bias + distance
        constant = query.shape[-1] ** -0.5 if scale is None else scale
        if rule.absolute:
            constant = 1.0
        return Call(module, rule, positions, query, key, mask, bias, causal, offset, constant, n)

    def _rule(self, module: nn.Module) -> Scaling:
        rule = getattr(module, "attention_scaling", None)
        if rule is None:
            rule = self.scaling
            if rule.learned and module.training:
                raise RuntimeError(
                    f"{type(rule).__name__} learns values in every layer and "
                    f"{type(module).__name__} has none; call kexue_pl.attention.attach(model) "
                    "before the optimizer is made, or kexue_pl.attention.install(model, scaling)"
                )
        if rule.inference_only and module.training:
            return _PLAIN
        own: Scaling = rule
        return own

    def _scaled(self, call: Call) -> tuple[Tensor, float]:
        """Queries and the constant for the kernel; equal rows need no product with the queries."""
        rule = call.scaling
        if type(rule) is Standard:
            return call.query, call.scale
        own = rule.per_layer or rule.learned
        if own or torch.compiler.is_compiling():
            return call.query * call.multiplier().to(call.query.dtype), call.scale
        size, state = call.query.shape[-1], _numbers(rule)
        if call.mask is None and not call.causal:
            return call.query, call.scale * self._equal(call.key.shape[2], rule, size, *state)
        return call.query * self._multiplied(
            call.n, rule, size, call.query.dtype, *state
        ), call.scale


def _rule_at(n: Tensor, scaling: Scaling, size: int) -> Tensor:
    rule = scaling.factor if scaling.absolute else scaling.ratio
    return rule(n, size)


def _multiplier(
    n: Tensor, scaling: Scaling, size: int, dtype: torch.dtype, *_state: object
) -> Tensor:
    """What multiplies the queries, for scalings that all layers share."""
    counts = n.double() if dtype == torch.float64 else n
    return _rule_at(counts, scaling, size).to(dtype)


def _equal(keys: int, scaling: Scaling, size: int, *_state: object) -> float:
    """The multiplier where every row sees all keys; made on the CPU, so no device is waited for."""
    return float(_rule_at(torch.tensor([keys], dtype=torch.float64), scaling, size))


def _unmasked(
    queries: int, keys: int, causal: bool, device: torch.device, _inference: bool
) -> Tensor:
    return count_visible(None, queries, keys, causal=causal, device=device)


def _numbers(scaling: Scaling) -> tuple[object, ...]:
    """The plain settings of a scaling: what was computed from others is not used again."""
    plain = (bool, int, float, str)
    return tuple(value for value in vars(scaling).values() if isinstance(value, plain))


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """Keys or values (B, Hk, K, d) repeated to (B, heads, K, d) for grouped queries."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], 1)


def row_logits(call: Call, query: Tensor, key: Tensor, rows: slice, scale: float) -> Tensor:
    """Scaled, biased and masked logits (B, H, rows, K) of a run of query rows.

    Args:
        call: positions, mask, bias and alignment of the call.
        query: (B, H, Q, d), already multiplied by the scaling.
        key: (B, H, K, d), repeated for every head.
        rows: a slice with start and stop.
        scale: the constant left to apply.
    """
    logits = call.positions.logits(query, key, rows, call.offset)
    if logits is None:
        logits = query[:, :, rows] @ key.transpose(-1, -2)
    logits = logits * scale
    if call.bias is not None:
        logits = logits + (call.bias if call.bias.shape[2] == 1 else call.bias[:, :, rows])
    if call.mask is not None:
        mask = call.mask if call.mask.shape[2] == 1 else call.mask[:, :, rows]
        hidden = ~visible_mask(mask)
        if mask.dtype != torch.bool:
            logits = logits + mask
        logits = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
    if call.causal:
        places = torch.arange(key.shape[2], device=key.device)
        own = torch.arange(rows.start, rows.stop, device=key.device)[:, None]
        logits = logits.masked_fill(places > own, torch.finfo(logits.dtype).min)
    return logits


def _on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _short_in_bfloat16(query: Tensor, key: Tensor) -> bool:
    """Whether plain products beat the fused kernel: training on a CPU in bfloat16, few keys.

    There the backward pass of PyTorch's kernel takes several times as long as the products
    (scripts/bench/attention.py); up to ROWS keys they need no more memory than one chunk.
    """
    trained = torch.is_grad_enabled() and query.requires_grad
    few = max(query.shape[2], key.shape[2]) <= ROWS
    return trained and few and query.dtype == torch.bfloat16 and _on_cpu(query)


def _attend_in_chunks(
    call: Call, query: Tensor, value: Tensor, scale: float, dropout: float
) -> Tensor:
    """(B, Q, H, d) for positions without a fused kernel, ROWS query rows at a time."""
    heads, length = query.shape[1], query.shape[2]
    key, value = repeat_heads(call.key, heads), repeat_heads(value, heads)
    parts = []
    for start in range(0, length, ROWS):
        rows = slice(start, min(start + ROWS, length))
        weights = row_logits(call, query, key, rows, scale).float().softmax(-1).to(value.dtype)
        parts.append(F.dropout(weights, dropout) @ value if dropout else weights @ value)
    return torch.cat(parts, 2).transpose(1, 2).contiguous()
