"""Exponentiated gradient descent: an optimizer for non-negative and simplex parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kexue_pl.optim.keep_dtype import keep_dtype

_NORMALIZE = ("none", "simplex", "signed")


class EGD(Optimizer):
    r"""Multiplicative updates: gradient descent in the geometry of the relative entropy.

    .. math::
        \text{"none"}: w\leftarrow w\,e^{-\eta g},\qquad
        \text{"simplex"}: w\leftarrow M\,\mathrm{softmax}(\ln w-\eta g),\qquad
        \text{"signed"}: w=a-b,\ a\leftarrow a\,e^{-\eta g},\ b\leftarrow b\,e^{\eta g}

    Each is the minimiser over u of :math:`\eta\langle g,u\rangle+\sum_i u_i\ln\frac{u_i}{w_i}-u_i+w_i`:
    over u > 0, over those of sum M, and over the pairs (a, b).

    The logarithms are the state, in float32 or wider. On the simplex a constant added to the
    gradient changes nothing. Zero stays zero.

    Args:
        params: parameters or groups; non-negative for "none" and "simplex", any for "signed".
        lr: eta > 0.
        normalize: "none", "simplex" (along ``dim``) or "signed" (EG+-, sparse solutions).
        total: M > 0, the sum along ``dim`` on the simplex.
        dim: the dimension that sums to ``total``.
        momentum: in [0, 1): heavy ball on the logarithms.
        max_exponent: |eta g| is clipped here, > 0; float32's exp overflows at 88.
        floor: smallest value of w (of a, b for "signed"), > 0 keeps entries revivable; 0 = none.
        scale: of a and b at the start for "signed": a - b = w, sqrt(a b) = scale.

    Raises:
        ValueError: for negative parameters (shape and value are named), or a setting out of range.

    Source: https://kexue.fm/archives/8968; Kivinen & Warmuth 1997,
    https://doi.org/10.1006/inco.1996.2612.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([0.5, 0.5]))
        >>> w.grad = torch.tensor([math.log(3.0), 0.0])
        >>> EGD([w], lr=1.0, normalize="simplex").step()
        >>> w.detach()                                                    # (1/3 : 1) of the mass
        tensor([0.2500, 0.7500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        *,
        normalize: str = "none",
        total: float = 1.0,
        dim: int = -1,
        momentum: float = 0.0,
        max_exponent: float = 30.0,
        floor: float = 0.0,
        scale: float = 1e-3,
    ) -> None:
        positive = {"lr": lr, "total": total, "max_exponent": max_exponent, "scale": scale}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(
                    f"egd: {name}={value} is refused, a number > 0 is expected; "
                    f"set optimizer.{name}=..."
                )
        if normalize not in _NORMALIZE:
            raise ValueError(
                f"egd: normalize={normalize!r} is refused, accepted: {', '.join(_NORMALIZE)}; "
                "set optimizer.normalize=simplex"
            )
        if not 0 <= momentum < 1:
            raise ValueError(f"egd: momentum={momentum} is refused, a number in [0, 1) is expected")
        if floor < 0:
            raise ValueError(f"egd: floor={floor} is refused, a number >= 0 is expected")
        defaults = {
            "lr": lr,
            "normalize": normalize,
            "total": total,
            "dim": dim,
            "momentum": momentum,
            "max_exponent": max_exponent,
            "floor": floor,
            "scale": scale,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                _check(p, group)
        keep_dtype(self, "log_")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One multiplicative step; returns the closure's loss if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        wide = torch.promote_types(p.dtype, torch.float32)
        if not state:
            self._start(p, group, wide)
        exponent = gradient.to(wide).mul(-group["lr"])
        exponent.clamp_(-group["max_exponent"], group["max_exponent"])
        if group["momentum"]:
            exponent = state["log_velocity"].mul_(group["momentum"]).add_(exponent)
        low = math.log(group["floor"]) if group["floor"] else -math.inf
        if group["normalize"] == "signed":
            plus = state["log_plus"].add_(exponent).clamp_(min=low)
            minus = state["log_minus"].sub_(exponent).clamp_(min=low)
            p.copy_(plus.exp() - minus.exp())
            return
        log = state["log_weight"].add_(exponent).clamp_(min=low)
        if group["normalize"] == "simplex":
            log.sub_(log.logsumexp(group["dim"], keepdim=True)).add_(math.log(group["total"]))
        p.copy_(log.exp())

    def _start(self, p: Tensor, group: dict[str, Any], wide: torch.dtype) -> None:
        state, weight = self.state[p], p.detach().to(wide)
        if group["momentum"]:
            state["log_velocity"] = torch.zeros_like(weight)
        if group["normalize"] != "signed":
            state["log_weight"] = weight.log()
            return
        # a - b = w and a b = scale^2: asinh keeps both logarithms exact for large |w|.
        half = torch.asinh(weight / (2 * group["scale"]))
        state["log_plus"] = half + math.log(group["scale"])
        state["log_minus"] = math.log(group["scale"]) - half


def _check(p: Tensor, group: dict[str, Any]) -> None:
    if group["normalize"] == "signed":
        return
    smallest = p.detach().min().item()
    if not smallest >= 0:
        raise ValueError(
            f"egd: a parameter of shape {tuple(p.shape)} has the entry {smallest:g}; "
            f"normalize={group['normalize']!r} expects non-negative entries; set "
            "optimizer.normalize=signed or start from positive values"
        )
