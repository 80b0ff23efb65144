"""Two-pass training equals the whole batch: dropout, bfloat16, parameters of the loss itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kexue_pl.losses import CoSENT, InfoNCE, PairOutputs, SBERTSoftmax, cached_loss, split_batch

ROWS = 64


def batch():
    g = torch.Generator().manual_seed(0)
    return {
        "left": torch.randn(ROWS, 8, generator=g),
        "right": torch.randn(ROWS, 8, generator=g),
        "labels": torch.randint(0, 2, (ROWS,), generator=g),
    }


def network(dropout=0.0):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 4))


def gradient(module):
    return torch.cat([p.grad.flatten() for p in module.parameters()])


def run(loss, net, micro, data):
    """Loss and gradient of net (and of the loss, if it trains anything) in micro-batches."""
    both = nn.ModuleList([net, loss])

    def forward(part):
        return loss.compact(PairOutputs(left=net(part["left"]), right=net(part["right"])))

    parts = split_batch(data, micro)
    value = cached_loss(forward, parts, lambda r: loss(r, data["labels"]), both.parameters())
    value.backward()
    return value.item(), gradient(both)


@pytest.mark.parametrize("make", [lambda: CoSENT(5.0), lambda: InfoNCE(5.0), SBERTSoftmax])
@pytest.mark.parametrize("micro", [1, 16, 48])
def test_equals_the_whole_batch(make, micro):
    data = batch()
    for key in ("left", "right"):
        data[key] = data[key].double()
    got = []
    for size in (ROWS, micro):
        torch.manual_seed(2)
        loss = make()
        loss.prepare(4)
        got.append(run(loss.double(), network().double(), size, data))
    assert got[1][0] == pytest.approx(got[0][0], abs=1e-12)
    torch.testing.assert_close(got[1][1], got[0][1], rtol=0, atol=1e-12)


def test_naive_accumulation_is_another_gradient():
    data, loss = batch(), CoSENT(20.0)
    _, want = run(loss, network(), ROWS, data)
    net = network()
    parts = split_batch(data, 16)
    for part in parts:
        outputs = PairOutputs(left=net(part["left"]), right=net(part["right"]))
        (loss(outputs, part["labels"]) / len(parts)).backward()
    assert torch.cosine_similarity(gradient(net), want, dim=0) < 0.9


def test_dropout_is_replayed():
    """The gradient is that of the loss under the masks of the first pass."""
    data, loss = batch(), CoSENT(5.0)
    net = network(dropout=0.5)
    torch.manual_seed(5)
    value, got = run(loss, net, 16, data)
    drawn_after = torch.rand(1)

    torch.manual_seed(5)
    plain = network(dropout=0.5)
    torch.manual_seed(5)
    parts = [
        PairOutputs(left=plain(part["left"]), right=plain(part["right"]))
        for part in split_batch(data, 16)
    ]
    whole = loss(PairOutputs.cat(parts), data["labels"])
    whole.backward()
    assert value == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(got, gradient(plain), rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.rand(1), drawn_after)


def test_without_replay_the_masks_would_differ(monkeypatch):
    monkeypatch.setattr("kexue_pl.losses.cached._restore", lambda state: None)
    data, loss = batch(), CoSENT(5.0)
    torch.manual_seed(5)
    _, got = run(loss, network(dropout=0.5), 16, data)
    monkeypatch.undo()
    torch.manual_seed(5)
    _, want = run(loss, network(dropout=0.5), 16, data)
    assert not torch.allclose(got, want, rtol=0.01)


def test_bfloat16_autocast():
    """Weight casts cached without a graph must not be used by the pass that needs one."""
    data, loss = batch(), InfoNCE(5.0)
    got = []
    for size in (ROWS, 16):
        net = network()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got.append(run(loss, net, size, data))
        assert all(p.grad.dtype == torch.float32 and p.grad.any() for p in net.parameters())
    assert got[1][0] == pytest.approx(got[0][0], rel=1e-6)
    error = (got[1][1] - got[0][1]).norm() / got[0][1].norm()
    assert error < 5e-3  # sums of bfloat16 products in another order


def test_loss_scaling_accumulation_and_frozen_parameters():
    data, loss = batch(), CoSENT(5.0)
    _, want = run(loss, network(), 16, data)
    net = network()
    parts = split_batch(data, 16)

    def value():
        return cached_loss(
            lambda p: loss.compact(PairOutputs(left=net(p["left"]), right=net(p["right"]))),
            parts,
            lambda r: loss(r, data["labels"]),
            net.parameters(),
        )

    (value() * 3).backward()
    value().backward()
    torch.testing.assert_close(gradient(net), 4 * want)
    net.zero_grad()
    net[0].weight.requires_grad_(False)
    value().backward()
    assert net[0].weight.grad is None
    torch.testing.assert_close(net[0].bias.grad.flatten(), want[128:144])
    with torch.no_grad():
        assert not value().requires_grad


def test_second_derivative_is_refused():
    data, loss, net = batch(), CoSENT(), network()
    value = cached_loss(
        lambda p: loss.compact(PairOutputs(left=net(p["left"]), right=net(p["right"]))),
        split_batch(data, 16),
        lambda r: loss(r, data["labels"]),
        net.parameters(),
    )
    first = torch.autograd.grad(value, net[0].weight, create_graph=True)[0]
    with pytest.raises(RuntimeError):
        first.sum().backward()
    with pytest.raises(RuntimeError, match="differentiated once"):
        value.backward()


def test_split_batch_faults():
    with pytest.raises(ValueError, match="one number of rows"):
        split_batch({"a": torch.zeros(2), "b": torch.zeros(3)}, 1)
    with pytest.raises(ValueError, match="micro-batch size 0"):
        split_batch({"a": torch.zeros(2)}, 0)
