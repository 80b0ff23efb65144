"""The learning of the step size: exponentiated gradient on scales and gains from alignments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kexue_pl.optim.alignment import Sums, local, measure, total
from kexue_pl.optim.families import average_gradient, has_momentum
from kexue_pl.optim.gains import MAX_EXPONENT, move_log_gain
from kexue_pl.optim.kernels import fits, fused_learn

if TYPE_CHECKING:
    from kexue_pl.optim.eg_step_size import EGStepSize

# Steps that the own mean lasts for beta="auto": beside momentum, and the range without it.
WITH_MOMENTUM, LEAST, MOST = 10.0, 10.0, 100.0
Group = dict[str, Any]
Touched = list[tuple[Group, Tensor]]


def gradient_of(parameter: Tensor) -> Tensor:
    """The gradient of a parameter known to have one.

    Example:
        >>> w = torch.ones(1, requires_grad=True)
        >>> w.sum().backward()
        >>> gradient_of(w)
        tensor([1.])
    """
    assert parameter.grad is not None
    return parameter.grad


class MetaLearner:
    """Moves ``eg_log_scale`` and ``eg_log_gain`` of one optimizer; keeps ``eg_mean`` where needed.

    Args:
        settings: rules, rates and bounds.
        optimizer: whose state holds everything.
        gain_on_gradient: gains compare raw gradients, because the optimizer's momentum holds gains.
        horizon: T, steps of the run, where known.

    Attributes:
        cosine: of the last gradient with the averaged direction over all parameters.
        momentum: whether the optimizer has any.

    Example:
        >>> from kexue_pl.optim import EGStepSize
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> sgd = torch.optim.SGD([w], lr=0.1)
        >>> learner = MetaLearner(EGStepSize(), sgd, gain_on_gradient=False)
        >>> w.grad = torch.ones(1)
        >>> learner.learn([(sgd.param_groups[0], w)], rates=(0.1, 0.0), unscale=1.0)
        >>> learner.cosine                                    # no direction to compare with yet
        0.0
    """

    def __init__(
        self,
        settings: EGStepSize,
        optimizer: Optimizer,
        *,
        gain_on_gradient: bool,
        horizon: int | None = None,
    ) -> None:
        self.settings, self.optimizer, self.horizon = settings, optimizer, horizon
        self.gain_on_gradient = gain_on_gradient
        self.momentum = has_momentum(optimizer)
        self.cosine = 0.0
        self._sound: set[Tensor] = set()
        self._first: dict[Tensor, Tensor] = {}

    def learn(self, touched: Touched, *, rates: tuple[float, float], unscale: float) -> None:
        """Move scales and gains by the gradients at hand, before the step uses them.

        Args:
            touched: (group, parameter) pairs that have a gradient.
            rates: (gamma_s, gamma_p).
            unscale: what the gradients must be multiplied with (1 / loss scale).
        """
        found = [self._direction(group, p) for group, p in touched]
        # Without a direction the gradient itself: only whether it is finite counts then.
        pairs = [
            (gradient_of(p), gradient_of(p) if known is None else known[0])
            for (_, p), known in zip(touched, found, strict=True)
        ]
        at_once = self._move_at_once(touched, found, rates[1])
        sums = at_once or measure(pairs, fused=self.settings.fused)
        self._sound = {p for (_, p), s in zip(touched, sums, strict=True) if s.finite}
        rows = [
            (group, p, Sums(s.dot * known[1] * unscale, s.gradient * unscale**2, s.direction))
            for (group, p), known, s in zip(touched, found, sums, strict=True)
            if known is not None
        ]
        self._move_scales(rows, rates[0])
        if self.settings.gain == "coordinate" and at_once is None:
            for group, p, s in rows:
                self._move_gain(group, p, s, rates[1], unscale)
        self._average(touched, unscale)

    def remember(self, touched: Touched) -> None:
        """After the step: make room for what is learnt, and start averages where needed.

        Keys enter the state of a parameter only here: an optimizer takes an empty state for the
        sign of its first step.
        """
        for _, p in touched:
            state = self.optimizer.state[p]
            if self.settings.gain == "coordinate" and "eg_log_gain" not in state:
                state["eg_log_gain"] = torch.zeros_like(p, dtype=_at_least_float32(p))
            if self.settings.scale == "tensor" and "eg_log_scale" not in state:
                state["eg_log_scale"] = torch.zeros((), dtype=torch.float64)
            if "eg_mean" not in state and p in self._sound and self._needs_mean(state):
                first = self._first.get(p, gradient_of(p)).to(_at_least_float32(p))
                state["eg_mean"] = (1 - self._beta()) * first
        self._first = {}

    def _needs_mean(self, state: Group) -> bool:
        if self.gain_on_gradient:
            return True
        return self.settings.signal == "average" and average_gradient(state) is None

    def _beta(self) -> float:
        """Averaging of the own mean; longer where the optimizer has no momentum.

        A step without momentum answers the last gradient's noise at once and in full, so the next
        gradient contradicts it; in a long average that gradient weighs little. Too long an average
        tells of a step that has grown too large when it is too late: a tenth of the run at most.
        """
        beta = self.settings.beta
        if not isinstance(beta, str):
            return beta
        steps = WITH_MOMENTUM
        if not self.momentum and self.horizon is not None:
            steps = min(max(self.horizon / 10, LEAST), MOST)
        return 1 - 1 / steps

    def _average(self, touched: Touched, unscale: float) -> None:
        """Here and not after the step: a fused kernel unscales the gradients it is given."""
        for _, p in touched:
            if p not in self._sound:
                continue
            mean, gradient = self.optimizer.state.get(p, {}).get("eg_mean"), gradient_of(p)
            if unscale != 1.0:
                gradient = gradient * unscale
            if mean is not None:
                mean.lerp_(gradient.to(mean.dtype), 1 - self._beta())
            elif unscale != 1.0:
                self._first[p] = gradient

    def _direction(self, group: Group, p: Tensor) -> tuple[Tensor, float] | None:
        """What the gradient is compared with, and the sign that makes agreement positive."""
        state = self.optimizer.state.get(p, {})
        # Under maximize the optimizer averages the negated gradient and steps along the gradient.
        sign = -1.0 if group.get("maximize") else 1.0
        if self.settings.signal == "update":
            delta = state.get("eg_delta")
            return None if delta is None else (delta, -sign)
        kept = average_gradient(state)
        if kept is not None:
            return kept, sign
        mean = state.get("eg_mean")
        return None if mean is None else (mean, 1.0)

    def _move_scales(self, rows: list[tuple[Group, Tensor, Sums]], rate: float) -> None:
        everything = total([s for _, _, s in rows])
        self.cosine = everything.cosine
        groups = self.optimizer.param_groups
        if self.settings.scale == "global":
            moved = self._moved(groups[0].get("eg_log_scale", 0.0), everything, groups[0], rate)
            for group in groups:
                group["eg_log_scale"] = moved
        elif self.settings.scale == "group":
            for group in groups:
                mine = total([s for owner, _, s in rows if owner is group])
                old = group.get("eg_log_scale", 0.0)
                group["eg_log_scale"] = self._moved(old, mine, group, rate)
        elif self.settings.scale == "tensor":
            for group, p, s in rows:
                held = self.optimizer.state[p].get("eg_log_scale")
                if held is not None:
                    held.fill_(self._moved(held.item(), s, group, rate))

    def _moved(self, log_scale: float, sums: Sums, group: Group, rate: float) -> float:
        if not sums.finite:
            return log_scale
        if self.settings.scale_rule == "raw":
            exponent = rate * sums.dot * self._units(group)
            exponent = max(-MAX_EXPONENT, min(MAX_EXPONENT, exponent))
        elif self.settings.scale_rule == "sign":
            exponent = rate * sums.sign
        else:
            below = min(0.0, sums.cosine + self.settings.tolerated(momentum=self.momentum))
            exponent = rate * (sums.cosine if sums.cosine > 0 else below)
        low, high = self.settings.log_scale_bounds
        return min(max(log_scale + exponent, low), high)

    def _units(self, group: Group) -> float:
        """The rate makes a product of gradients a decrease of the loss; an update has it inside."""
        return 1.0 if self.settings.signal == "update" else float(group.get("lr", 1.0))

    def _move_at_once(
        self, touched: Touched, found: list[tuple[Tensor, float] | None], rate: float
    ) -> list[Sums] | None:
        """Sums with the gains moved on the way, tensor by tensor so that the cache serves both.

        None where the kernels do not know a tensor, the rule or the place of the gains.
        """
        by_sign = self.settings.gain == "coordinate" and self.settings.gain_rule == "sign"
        if not self.settings.fused or not by_sign or self.gain_on_gradient:
            return None
        low, high = self.settings.log_gain_bounds
        rows, rates = [], []
        for (_, p), known in zip(touched, found, strict=True):
            log_gain = self.optimizer.state.get(p, {}).get("eg_log_gain")
            if known is None or log_gain is None or not fits(log_gain, gradient_of(p), known[0]):
                return None
            rows.append((log_gain, gradient_of(p), known[0]))
            rates.append(rate * known[1])
        return [Sums(*s) for s in fused_learn(rows, rates=rates, low=low, high=high)]

    def _move_gain(self, group: Group, p: Tensor, sums: Sums, rate: float, unscale: float) -> None:
        state = self.optimizer.state[p]
        log_gain, known = state.get("eg_log_gain"), self._direction(group, p)
        if self.gain_on_gradient:
            known = (state["eg_mean"], 1.0) if "eg_mean" in state else None
        rule = self.settings.gain_rule
        if self.gain_on_gradient and rule == "cosine" and known is not None:
            (sums,) = measure([(gradient_of(p), known[0])])
            sums = sums._replace(gradient=sums.gradient * unscale**2)
        if log_gain is None or known is None or p not in self._sound:
            return
        move_log_gain(
            local(log_gain),
            local(gradient_of(p)),
            local(known[0]),
            rate=rate * known[1] * (1.0 if rule == "sign" else unscale),
            rule=rule,
            sums=sums,
            bounds=self.settings.log_gain_bounds,
            fused=self.settings.fused,
        )


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
