from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kexue_pl.penalties import InputGradient, input_gradient_penalty
from tests.penalties.nets import closure_of, flat_gradient, mlp, tokens
from tests.support.ranks import run_ranks


def test_per_sample_form_equals_a_loop() -> None:
    net, x, y = mlp()
    x.requires_grad_()
    value = input_gradient_penalty(F.cross_entropy(net(x), y, reduction="none"), x)
    rows = []
    for one, label in zip(x.detach(), y, strict=True):
        one = one[None].requires_grad_()
        rows.append(
            torch.autograd.grad(F.cross_entropy(net(one), label[None]), one)[0].square().sum()
        )
    assert torch.allclose(value, torch.stack(rows).mean(), rtol=1e-12)


def test_gradcheck() -> None:
    net, x, y = mlp()
    weights = tuple(p.detach().requires_grad_() for p in net.parameters())
    names = [n for n, _ in net.named_parameters()]

    def value(*values: Tensor) -> Tensor:
        inner = x.clone().requires_grad_()
        out = torch.func.functional_call(net, dict(zip(names, values, strict=True)), (inner,))
        return input_gradient_penalty(F.cross_entropy(out, y, reduction="none"), inner)

    assert torch.autograd.gradcheck(value, weights)


def test_refuses_a_matrix_of_losses() -> None:
    x = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"\(2, 2\)"):
        input_gradient_penalty(x * 1.0, x)


@pytest.mark.parametrize(("reduction", "factor"), [("sample", 5), ("batch", 1)])
def test_class_equals_the_function(reduction: str, factor: int) -> None:
    net, x, y = mlp()
    closure = closure_of(net, x, y)
    penalty = InputGradient(weight=0.3, reduction=reduction)
    total = penalty.loss(closure, parameters=list(net.parameters()), embeddings=net[0])
    inner = x.clone().requires_grad_()
    loss = F.cross_entropy(net(inner), y)
    expected = loss + 0.15 * factor * input_gradient_penalty(loss, inner)
    assert torch.allclose(total, expected, rtol=1e-12)
    assert torch.allclose(flat_gradient(total, net), flat_gradient(expected, net), rtol=1e-10)


def test_sample_reduction_is_the_mean_of_per_sample_squares() -> None:
    net, x, y = mlp()
    penalty = InputGradient(weight=1.0)
    penalty.loss(closure_of(net, x, y), parameters=[], embeddings=net[0])
    inner = x.clone().requires_grad_()
    expected = input_gradient_penalty(F.cross_entropy(net(inner), y, reduction="none"), inner)
    assert penalty.value is not None
    assert torch.allclose(penalty.value, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["mlp", "tokens"])
def test_finite_difference_agrees_with_exact(kind: str) -> None:
    net, x, y = mlp() if kind == "mlp" else tokens()
    inputs = net[0] if kind == "mlp" else net.table  # type: ignore[index,union-attr]
    found = []
    for method in ("exact", "finite_difference"):
        penalty = InputGradient(weight=2.0, method=method, step=1e-3)
        total = penalty.loss(closure_of(net, x, y), parameters=[], embeddings=inputs)
        found.append((total.detach(), flat_gradient(total, net)))
    plain = flat_gradient(closure_of(net, x, y)(), net)
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-10)
    size = (found[0][1] - plain).norm()
    assert size > 1e-3
    assert (found[0][1] - found[1][1]).norm() < 1e-3 * size


def test_finite_difference_agrees_in_float32() -> None:
    net, x, y = mlp()
    net, x = net.float(), x.float()
    found = []
    for method in ("exact", "finite_difference"):
        total = InputGradient(weight=2.0, method=method).loss(
            closure_of(net, x, y), parameters=[], embeddings=net[0]
        )
        found.append(flat_gradient(total, net))
    plain = flat_gradient(closure_of(net, x, y)(), net)
    assert (found[0] - found[1]).norm() <= 1e-3 * (found[0] - plain).norm()


def test_the_penalty_has_a_gradient() -> None:
    net, x, y = mlp()
    closure = closure_of(net, x, y)
    total = InputGradient(weight=1.0).loss(closure, parameters=[], embeddings=net[0])
    assert (flat_gradient(total, net) - flat_gradient(closure(), net)).norm() > 1e-3


def test_padding_positions_do_not_count() -> None:
    net, ids, y = tokens()
    ids[:, 3] = 0
    penalty = InputGradient(weight=1.0, reduction="batch")
    penalty.loss(closure_of(net, ids, y), parameters=[], embeddings=net.table)
    outputs: list[Tensor] = []
    handle = net.table.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    loss = closure_of(net, ids, y)()
    handle.remove()
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert gradient[:, 3].abs().max() > 0
    assert penalty.value is not None
    assert torch.allclose(penalty.value, gradient[:, :3].square().sum(), rtol=1e-12)


def test_a_frozen_table_is_penalised_too() -> None:
    net, ids, y = tokens()
    net.table.weight.requires_grad_(False)
    penalty = InputGradient(weight=1.0)
    total = penalty.loss(closure_of(net, ids, y), parameters=[], embeddings=net.table)
    total.backward()
    assert penalty.value is not None
    assert penalty.value > 0
    assert net.inner.weight.grad is not None


def test_messages_name_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"weight=-1\.0 .*penalty\.weight"):
        InputGradient(weight=-1.0)
    with pytest.raises(ValueError, match=r"accepted: sample, batch"):
        InputGradient(reduction="mean")
    with pytest.raises(ValueError, match=r"penalty=parameter_gradient"):
        InputGradient().loss(lambda: torch.tensor(0.0), parameters=[], embeddings=None)
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"never called"):
        InputGradient().loss(lambda: w.sum(), parameters=[], embeddings=nn.Identity())


def _rank_gradient(rank: int, world: int) -> Tensor:
    net, x, y = mlp()
    x, y = torch.cat([x, x.flip(0) + 1]), torch.cat([y, y])
    if world == 1:
        total = InputGradient(weight=1.0).loss(
            closure_of(net, x, y), parameters=[], embeddings=net[0]
        )
        return flat_gradient(total, net)
    wrapped = nn.parallel.DistributedDataParallel(net)
    mine = slice(rank * 5, rank * 5 + 5)
    closure = closure_of(wrapped, x[mine], y[mine])
    InputGradient(weight=1.0).loss(closure, parameters=[], embeddings=net[0]).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])


def _static_graph_message() -> str:
    net, x, y = mlp()
    wrapped = nn.parallel.DistributedDataParallel(net, static_graph=True)
    try:
        InputGradient().loss(closure_of(wrapped, x, y), parameters=[], embeddings=net[0])
    except RuntimeError as error:
        return str(error)
    return ""


def _rank_results(rank: int, world: int) -> tuple[Tensor, str]:
    return _rank_gradient(rank, world), _static_graph_message()


def test_two_ranks_equal_one_process_and_static_graph_is_refused() -> None:
    whole = _rank_gradient(0, 1)
    for gradient, message in run_ranks(_rank_results, 2):
        assert torch.allclose(gradient, whole, rtol=1e-12, atol=1e-14)
        assert "static_graph=False" in message
