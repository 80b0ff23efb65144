"""In-batch losses over two ranks equal one process on the joint batch; ungathered they do not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kexue_pl.losses import (
    AnglE,
    CoSENT,
    InfoNCE,
    Loss,
    OnlineContrastive,
    PairOutputs,
    SimCSE,
    Triplet,
    cached_loss,
    split_batch,
)
from kexue_pl.losses.gather import joint, times_world_size
from tests.support.ranks import run_ranks

ROWS, WIDTH = 24, 8
CUTS = (12, 17)


def losses(gather: bool) -> dict[str, Loss]:
    return {
        "cosent": CoSENT(5.0, gather=gather),
        "angle": AnglE(5.0, gather=gather),
        "info_nce": InfoNCE(5.0, gather=gather),
        "info_nce_symmetric": InfoNCE(5.0, symmetric=True, gather=gather),
        "info_nce_negatives": InfoNCE(5.0, gather=gather),
        "simcse": SimCSE(5.0, gather=gather),
        "triplet": Triplet(margin=0.5, gather=gather),
        "online_contrastive": OnlineContrastive(gather=gather),
    }


class Step(nn.Module):
    """Runs what it is given inside the wrapper's forward, as Lightning runs a training step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, run):
        return run()


def step(name: str, loss: Loss, cut: int | None, rank: int | None, micro: int = 0):
    """Value and weight gradient; rank None is one process with all rows, else its side of `cut`."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (ROWS,), generator=g)
    labels[:12] |= torch.arange(12) % 4 > 0  # an uneven share of positives
    data = {
        "left": torch.randn(ROWS, WIDTH, generator=g).double(),
        "right": torch.randn(ROWS, WIDTH, generator=g).double(),
        "negatives": torch.randn(ROWS, 2, WIDTH, generator=g).double(),
        "labels": labels,
    }
    part = slice(None) if rank is None else slice(0, cut) if rank == 0 else slice(cut, None)
    data = {key: value[part] for key, value in data.items()}
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(WIDTH, 6), nn.Tanh(), nn.Linear(6, 4)).double()
    model = Step(net) if rank is None else nn.parallel.DistributedDataParallel(Step(net))
    keys = ["left", "right"] + ["negatives"] * name.endswith("negatives")

    def forward(batch):
        return loss.compact(PairOutputs(**{key: net(batch[key]) for key in keys}))

    def criterion(outputs):
        return loss(outputs, data["labels"])

    if micro:
        micros = split_batch(data, micro)
        value = model(lambda: cached_loss(forward, micros, criterion, net.parameters()))
    else:
        value = model(lambda: criterion(forward(data)))
    value.backward()
    return value.item(), torch.cat([p.grad.flatten() for p in net.parameters()])


def on_rank(rank: int, world: int):
    got = {}
    for cut in CUTS:
        for gather in (True, False):
            for name, loss in losses(gather).items():
                got[cut, gather, name, 0] = step(name, loss, cut, rank)
        for name in ("cosent", "info_nce"):
            got[cut, True, name, 4] = step(name, losses(True)[name], cut, rank, micro=4)
    rows = torch.arange(rank + 1.0)
    got["joint"] = joint(rows), joint(rows > 0), joint(rows[:rank])
    return got


@pytest.fixture(scope="module")
def ranks():
    return run_ranks(on_rank, 2)


def test_joint_rows_in_rank_order(ranks):
    for got in ranks:
        numbers, bools, maybe_none = got["joint"]
        assert numbers.tolist() == [0, 0, 1]
        assert bools.tolist() == [False, False, True]
        assert maybe_none.tolist() == [0]


@pytest.mark.parametrize("name", list(losses(True)))
@pytest.mark.parametrize("cut", CUTS)
def test_two_ranks_equal_one_process(ranks, name, cut):
    value, gradient = step(name, losses(True)[name], None, None)
    for got in ranks:
        loss, weights = got[cut, True, name, 0]
        assert loss == pytest.approx(value, abs=1e-10)
        torch.testing.assert_close(weights, gradient, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", list(losses(True)))
@pytest.mark.parametrize("cut", CUTS)
def test_ungathered_is_another_loss(ranks, name, cut):
    value, gradient = step(name, losses(True)[name], None, None)
    mean = sum(got[cut, False, name, 0][0] for got in ranks) / 2
    weights = ranks[0][cut, False, name, 0][1]
    assert abs(mean - value) > 1e-3
    assert (weights - gradient).norm() > 0.02 * gradient.norm()


@pytest.mark.parametrize("name", ["cosent", "info_nce"])
@pytest.mark.parametrize("cut", CUTS)
def test_two_ranks_with_two_passes_equal_one_process(ranks, name, cut):
    value, gradient = step(name, losses(True)[name], None, None)
    for got in ranks:
        loss, weights = got[cut, True, name, 4]
        assert loss == pytest.approx(value, abs=1e-10)
        torch.testing.assert_close(weights, gradient, rtol=0, atol=1e-10)


def test_evaluation_does_not_gather():
    loss = CoSENT().eval()
    pairs = PairOutputs(scores=torch.tensor([0.1, 0.2]))
    assert torch.equal(
        loss(pairs, torch.tensor([0, 1])), CoSENT(gather=False)(pairs, torch.tensor([0, 1]))
    )


def test_one_process_is_left_alone():
    x = torch.randn(3, requires_grad=True)
    assert joint(x) is x
    assert times_world_size(x) is x
