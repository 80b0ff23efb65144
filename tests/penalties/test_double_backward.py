from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kexue_pl.penalties import ParameterGradient, check_twice_differentiable, math_attention
from kexue_pl.penalties.double_backward import differentiable_gradients


def _attend(q: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, q, q).square().sum()


def test_math_attention_has_a_second_derivative_and_the_default_has_not() -> None:
    q = torch.randn(2, 2, 5, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"fused|flash"):
        check_twice_differentiable(_attend(q))
    with math_attention():
        loss = _attend(q)
        check_twice_differentiable(loss)
        differentiable_gradients(loss, [q])[0].square().sum().backward()
    assert q.grad is not None


def test_a_compiled_network_is_refused_with_a_remedy() -> None:
    net = torch.compile(nn.Linear(3, 1), backend="aot_eager")
    x = torch.randn(2, 3)
    penalty = ParameterGradient()
    with pytest.raises(RuntimeError, match=r"torch\.compile.*finite_difference"):
        penalty.loss(lambda: net(x).sum(), parameters=list(net.parameters()), embeddings=None)
    other = ParameterGradient(method="finite_difference")
    loss = other.loss(
        lambda: net(x).square().sum(), parameters=list(net.parameters()), embeddings=None
    )
    loss.backward()


def test_inputs_out_of_reach_get_zeros() -> None:
    x, other = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    assert differentiable_gradients(x.sum(), [other])[0].tolist() == [0, 0, 0]
