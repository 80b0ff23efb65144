from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.penalties import VAT, record_output
from tests.penalties.nets import flat_gradient, mlp, tokens


def _recording(net: nn.Module, x: Tensor, y: Tensor):  # type: ignore[no-untyped-def]
    return lambda: F.cross_entropy(record_output(net(x)), y)


def test_finds_the_most_sensitive_direction() -> None:
    torch.manual_seed(0)
    w = torch.randn(6, 4, dtype=torch.float64)
    inputs, x = nn.Identity(), torch.randn(3, 4, dtype=torch.float64)
    vat = VAT(epsilon=0.1, divergence="mse", iterations=60)
    vat.loss(lambda: record_output(inputs(x) @ w.T).sum(), parameters=[], embeddings=inputs)
    largest = torch.linalg.matrix_norm(w, 2).square() * 0.01 / 6
    assert vat.value is not None
    assert torch.allclose(vat.value, largest, rtol=1e-6)


def test_is_larger_than_a_random_shift_and_differentiable() -> None:
    net, x, y = mlp()
    torch.manual_seed(1)
    vat = VAT(epsilon=0.5, iterations=5)
    total = vat.loss(_recording(net, x, y), parameters=[], embeddings=net[0])
    clean = net(x).log_softmax(-1)
    random = []
    for _ in range(20):
        d = torch.randn_like(x)
        moved = net(x + 0.5 * d / d.norm(dim=1, keepdim=True)).log_softmax(-1)
        random.append((clean.exp() * (clean - moved)).sum(-1).mean())
    assert vat.value is not None
    assert vat.value > torch.stack(random).max()
    plain = flat_gradient(_recording(net, x, y)(), net)
    assert (flat_gradient(total, net) - plain).norm() > 1e-3


def test_padding_is_not_shifted_at_first() -> None:
    net, ids, y = tokens()
    ids[:, 2:] = 0
    vat = VAT()
    assert torch.isfinite(vat.loss(_recording(net, ids, y), parameters=[], embeddings=net.table))


def test_a_task_that_records_nothing_is_refused() -> None:
    net, x, y = mlp()
    with pytest.raises(RuntimeError, match="penalty=fgm"):
        VAT().loss(lambda: F.cross_entropy(net(x), y), parameters=[], embeddings=net[0])
    with pytest.raises(ValueError, match="accepted: kl, mse"):
        VAT(divergence="js")
