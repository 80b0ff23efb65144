from __future__ import annotations

import pytest
import torch

from kexue_pl.penalties.finite_difference import gradients, hessian_gradient, moved
from kexue_pl.penalties.replay import Replay


def test_hessian_product_of_a_quartic() -> None:
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        return (w**4).sum()

    g = gradients(loss(), [w])
    (found,) = hessian_gradient(loss, [w], g, step=1e-4, replay=Replay())
    exact = 12 * w.detach() ** 2 * g[0]
    assert torch.allclose(found, exact, rtol=1e-5)


def test_weights_come_back_bitwise_also_after_a_fault() -> None:
    w = torch.nn.Parameter(torch.randn(1000))
    before = w.detach().clone()
    with pytest.raises(KeyError), moved([w], [torch.randn(1000)], torch.tensor(1e-3)):
        raise KeyError
    assert torch.equal(w, before)


def test_a_graph_built_before_is_still_good_after() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    loss = (w**3).sum()
    with moved([w], [torch.ones(2)], torch.tensor(1.0)):
        assert w.tolist() == [2, 2]
    loss.backward()
    assert w.grad is not None
    assert w.grad.tolist() == [3, 3]
