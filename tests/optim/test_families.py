from __future__ import annotations

import pytest
import torch
from torch import nn

from kexue_pl.optim.families import LINEAR, decoupled_decay, has_momentum, linear_in_lr, refuse


def _weight() -> nn.Parameter:
    return nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", sorted(name for name in LINEAR if hasattr(torch.optim, name)))
def test_linear_optimizers_are_linear_in_the_rate(name: str) -> None:
    moved = []
    for lr in (1e-3, 3e-3):
        w = _weight()
        optimizer = getattr(torch.optim, name)([w], lr=lr)
        assert linear_in_lr(optimizer)
        start = w.detach().clone()
        w.grad = torch.linspace(-1, 1, 12).view(4, 3)
        optimizer.step()
        moved.append(w.detach() - start)
    assert torch.allclose(3 * moved[0], moved[1], rtol=1e-2, atol=1e-6)


def test_decay_is_decoupled_where_it_is() -> None:
    for make, expected in ((torch.optim.Adam, 0.0), (torch.optim.AdamW, 0.1)):
        optimizer = make([_weight()], weight_decay=0.1)
        assert decoupled_decay(optimizer, optimizer.param_groups[0]) == expected


def test_a_stranger_is_refused() -> None:
    with pytest.raises(TypeError, match=r"no torch\.optim\.Optimizer"):
        refuse(object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="SparseAdam"):
        refuse(torch.optim.SparseAdam([_weight()]))


def test_momentum_is_seen() -> None:
    w = [_weight()]
    for bare in (torch.optim.SGD(w), torch.optim.RMSprop(w), torch.optim.Adafactor(w)):
        assert not has_momentum(bare)
    for kept in (torch.optim.SGD(w, momentum=0.5), torch.optim.NAdam(w), torch.optim.Muon(w)):
        assert has_momentum(kept)


def test_deepspeed_is_refused() -> None:
    class FusedAdam(torch.optim.Adam):
        __module__ = "deepspeed.ops.adam.fused_adam"

    with pytest.raises(TypeError, match=r"FusedAdam is DeepSpeed's.*ddp or fsdp"):
        refuse(FusedAdam([_weight()]))
