"""VAT: virtual adversarial training, smoothness of the prediction without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kexue_pl.penalties.base import (
    Closure,
    Penalty,
    check_choice,
    check_positive,
    require_embeddings,
)
from kexue_pl.penalties.embedding import Seen, captured, row_norm, shifted, steepest
from kexue_pl.penalties.outputs import recorded_outputs
from kexue_pl.penalties.replay import Replay


def kl_divergence(target: Tensor, output: Tensor) -> Tensor:
    r"""Mean over rows of
    :math:`KL(\mathrm{softmax}(\text{target})\,\Vert\,\mathrm{softmax}(\text{output}))`, logits
    (..., C).

    Example:
        >>> kl_divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item()
        0.0
        >>> output = torch.tensor([0.25, 0.75]).log()
        >>> round(kl_divergence(torch.zeros(2), output).item(), 4)        # ln(4 / 3) / 2
        0.1438
    """
    log_p, log_q = target.log_softmax(-1), output.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def squared_distance(target: Tensor, output: Tensor) -> Tensor:
    """Mean squared difference of scores of any shape.

    Example:
        >>> squared_distance(torch.zeros(2), torch.tensor([1.0, 3.0])).item()
        5.0
    """
    return (target - output).square().mean()


_DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": kl_divergence,
    "mse": squared_distance,
}


class VAT(Penalty):
    r"""Total loss :math:`L + w\,D(f(e), f(e+\delta))`, the prediction against itself at the most
    sensitive shift.

    The shift is found by power iteration from a random unit direction d: :math:`\delta=\xi d`,
    :math:`d\leftarrow\nabla_\delta D/\lVert\cdot\rVert`, finally :math:`\delta=\epsilon d`, per
    sample. The prediction is what the loss hands to ``record_output`` (logits for "kl", scores of
    any shape for "mse"); the undisturbed prediction is a constant. All evaluations use the same
    dropout masks.

    Args:
        epsilon: length of the final shift, > 0.
        xi: length of the probing shift, > 0; too small drowns in float32 rounding.
        iterations: of the power method, >= 1.
        divergence: "kl" or "mse".
        weight: w > 0.

    Source: https://kexue.fm/archives/7466; Miyato et al., https://arxiv.org/abs/1704.03976.

    Example:
        >>> from kexue_pl.penalties import record_output
        >>> inputs = nn.Identity()
        >>> x, w = torch.tensor([[3.0, 4.0]]), torch.tensor([2.0, 0.0])
        >>> closure = lambda: record_output(inputs(x) * w).sum()
        >>> vat = VAT(epsilon=1.0, divergence="mse", iterations=30)
        >>> total = vat.loss(closure, parameters=[], embeddings=inputs)   # 6 + mean of (2^2, 0)
        >>> round(total.item(), 3)
        8.0
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.5,
        xi: float = 1e-2,
        iterations: int = 1,
        divergence: str = "kl",
        weight: float = 1.0,
    ) -> None:
        check_positive("vat", epsilon=epsilon, xi=xi, iterations=iterations, weight=weight)
        check_choice("vat", "divergence", divergence, tuple(_DIVERGENCES))
        self.epsilon, self.xi, self.iterations, self.weight = epsilon, xi, int(iterations), weight
        self.divergence = divergence

    def loss(
        self, closure: Closure, *, parameters: Sequence[nn.Parameter], embeddings: nn.Module | None
    ) -> Tensor:
        """Plain loss plus the weighted divergence."""
        module = require_embeddings("vat", embeddings)
        replay = Replay()
        with captured(module) as seen, recorded_outputs() as outputs:
            loss = closure()
        if not outputs or not seen.outputs:
            raise RuntimeError(
                "penalty vat: the loss of this task records no prediction "
                "(kexue_pl.penalties.record_output) or never "
                "calls its embedding; use penalty=fgm or penalty=pgd"
            )
        targets = [output.detach() for output in outputs]
        direction = [
            _unit(torch.randn_like(x), real)
            for x, real in zip(seen.outputs, seen.real, strict=True)
        ]
        for _ in range(self.iterations):
            value, shifted_seen = self._divergence(
                closure, module, targets, direction, self.xi, replay
            )
            direction = steepest(shifted_seen.gradients(value), 1.0)
        value, _ = self._divergence(closure, module, targets, direction, self.epsilon, replay)
        self.value = value.detach()
        return loss + self.weight * value

    def _divergence(
        self,
        closure: Closure,
        module: nn.Module,
        targets: Sequence[Tensor],
        direction: Sequence[Tensor],
        length: float,
        replay: Replay,
    ) -> tuple[Tensor, Seen]:
        deltas = [length * d for d in direction]
        with (
            replay.again(),
            shifted(module, deltas),
            captured(module) as seen,
            recorded_outputs() as outputs,
        ):
            closure()
        measure = _DIVERGENCES[self.divergence]
        pairs = zip(targets, outputs, strict=True)
        return torch.stack([measure(target, output) for target, output in pairs]).sum(), seen


def _unit(value: Tensor, real: Tensor | None) -> Tensor:
    value = value if real is None else value * real
    return value / row_norm(value).clamp_min(torch.finfo(value.dtype).tiny)
