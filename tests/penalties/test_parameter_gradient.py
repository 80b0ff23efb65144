from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.penalties import ParameterGradient, parameter_gradient_penalty
from tests.penalties.nets import closure_of, flat_gradient, mlp, tokens


def _sample_penalty(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    losses = F.cross_entropy(net(x), y, reduction="none")
    return parameter_gradient_penalty(losses, list(net.parameters()))


def test_gradcheck() -> None:
    net, x, y = mlp()
    weights = tuple(p.detach().requires_grad_() for p in net.parameters())
    names = [n for n, _ in net.named_parameters()]

    def value(*values: Tensor) -> Tensor:
        out = torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x,))
        return parameter_gradient_penalty(F.cross_entropy(out, y, reduction="none"), values)

    assert torch.autograd.gradcheck(value, weights)


def test_batch_form_is_below_the_mean_of_samples() -> None:
    net, x, y = mlp()
    batch = parameter_gradient_penalty(F.cross_entropy(net(x), y), list(net.parameters()))
    assert 0 < batch < _sample_penalty(net, x, y)


def test_exact_batch_class_equals_the_function() -> None:
    net, x, y = mlp()
    closure = closure_of(net, x, y)
    parameters = list(net.parameters())
    total = ParameterGradient(weight=0.4).loss(closure, parameters=parameters, embeddings=None)
    loss = closure()
    expected = loss + 0.2 * parameter_gradient_penalty(loss, parameters)
    assert torch.equal(total, expected)
    assert torch.allclose(flat_gradient(total, net), flat_gradient(expected, net), rtol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "tokens"])
def test_closed_form_class_equals_the_loop(kind: str) -> None:
    net, x, y = mlp() if kind == "mlp" else tokens()
    penalty = ParameterGradient(weight=2.0, reduction="sample")
    parameters = list(net.parameters())
    total = penalty.loss(closure_of(net, x, y), parameters=parameters, embeddings=None)
    loop = _sample_penalty(net, x, y)
    expected = closure_of(net, x, y)() + loop
    assert penalty.value is not None
    assert torch.allclose(penalty.value, loop, rtol=1e-10)
    reference = flat_gradient(expected, net)
    assert (flat_gradient(total, net) - reference).norm() <= 1e-10 * reference.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_difference_agrees_with_exact(dtype: torch.dtype) -> None:
    net, x, y = mlp()
    net, x = net.to(dtype), x.to(dtype)
    closure, parameters = closure_of(net, x, y), list(net.parameters())
    before = [p.detach().clone() for p in parameters]
    found = []
    for method in ("exact", "finite_difference"):
        penalty = ParameterGradient(weight=1.0, method=method)
        total = penalty.loss(closure, parameters=parameters, embeddings=None)
        found.append((total.detach(), flat_gradient(total, net)))
    change = (found[0][1] - flat_gradient(closure(), net)).norm()
    assert change > 1e-3
    assert (found[0][1] - found[1][1]).norm() <= 1e-3 * change
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-6)
    assert all(torch.equal(p, old) for p, old in zip(parameters, before, strict=True))


def test_finite_difference_uses_one_dropout_mask() -> None:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Tanh(), nn.Linear(64, 3)).double()
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 3, (5,))
    found = []
    for method in ("exact", "finite_difference"):
        torch.manual_seed(7)
        total = ParameterGradient(weight=1.0, method=method).loss(
            closure_of(net, x, y), parameters=list(net.parameters()), embeddings=None
        )
        found.append(flat_gradient(total, net))
        found.append(torch.rand(1))
    assert (found[0] - found[2]).norm() <= 1e-3 * found[0].norm()
    assert torch.equal(found[1], found[3])  # the generator continues where one forward left it


def test_unused_parameters_are_no_error() -> None:
    net, x, y = mlp()
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    for method in ("exact", "finite_difference"):
        total = ParameterGradient(weight=1.0, method=method).loss(
            closure_of(net, x, y), parameters=[*net.parameters(), extra], embeddings=None
        )
        assert torch.isfinite(total)


def test_messages_name_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"penalty\.reduction=batch"):
        ParameterGradient(reduction="sample", method="finite_difference")
    net, x, y = mlp()
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"\[\(2,\)\].*penalty\.uncovered=ignore"):
        ParameterGradient(reduction="sample").loss(
            closure_of(net, x, y), parameters=[*net.parameters(), extra], embeddings=None
        )
    with pytest.raises(ValueError, match="0-d loss"):
        parameter_gradient_penalty(torch.ones(2, 2), [])
