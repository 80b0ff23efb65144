from __future__ import annotations

import torch

from kexue_pl.penalties import FGM, PGD
from kexue_pl.penalties.embedding import row_norm
from kexue_pl.penalties.pgd import project
from tests.penalties.nets import closure_of, flat_gradient, mlp


def test_one_full_step_is_fgm() -> None:
    net, x, y = mlp()
    closure = closure_of(net, x, y)
    found = [
        penalty.loss(closure, parameters=[], embeddings=net[0])
        for penalty in (FGM(epsilon=0.3), PGD(epsilon=0.3, alpha=0.3, steps=1))
    ]
    assert torch.allclose(found[0], found[1], rtol=1e-12)
    assert torch.allclose(flat_gradient(found[0], net), flat_gradient(found[1], net), rtol=1e-10)


def test_more_steps_find_a_higher_loss() -> None:
    net, x, y = mlp()
    values = []
    for penalty in (FGM(epsilon=2.0), PGD(epsilon=2.0, alpha=0.5, steps=12)):
        penalty.loss(closure_of(net, x, y), parameters=[], embeddings=net[0])
        assert penalty.value is not None
        values.append(penalty.value)
    assert values[1] > values[0] + 1e-4


def test_projection() -> None:
    delta = torch.randn(20, 3, 4, dtype=torch.float64)
    inside = project(delta, 2.0)
    assert row_norm(inside).max() <= 2.0 + 1e-12
    short = row_norm(delta).flatten() <= 2.0
    assert torch.equal(inside[short], delta[short])
    assert (~short).any()
