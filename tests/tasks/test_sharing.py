"""Sharing behind the encoder: what is mixed, and who owns which parameter."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.tasks.sharing import CGC, CrossStitch, Hard, MMoE, make_sharing


@pytest.mark.parametrize("name", ["hard", "mmoe", "cgc", "cross_stitch"])
def test_owned_parameters_touch_their_task_alone(name: str) -> None:
    torch.manual_seed(0)
    sharing = make_sharing(name, 6, 3, 2)
    owned = [{id(p) for p in sharing.own(t)} for t in range(3)]
    assert not owned[0] & owned[1] and not owned[1] & owned[2]
    shared = sharing(torch.randn(4, 1, 6))
    for t in range(3):
        sharing.zero_grad()
        features = sharing.task(t, shared)
        assert features.shape == (4, 1, 6)
        features.square().sum().backward(retain_graph=True) if features.requires_grad else None
        touched = {id(p) for p in sharing.parameters() if p.grad is not None and bool(p.grad.any())}
        others = set().union(*(owned[s] for s in range(3) if s != t))
        assert not touched & others
    everything = {id(p) for p in sharing.parameters()}
    assert set().union(*owned) <= everything


def test_a_gate_mixes_the_experts() -> None:
    torch.manual_seed(0)
    sharing = MMoE(4, 2, 3)
    h = torch.randn(5, 4)
    gate = sharing.gates[1](h).softmax(-1)
    want = sum(gate[:, e : e + 1] * sharing.experts[e](h) for e in range(3))
    torch.testing.assert_close(sharing.task(1, sharing(h)), want)
    private = CGC(4, 2, 3)
    gate = private.gates[0](h).softmax(-1)
    answers = [*(expert(h) for expert in private.experts), private.private[0](h)]
    want = sum(gate[:, e : e + 1] * answer for e, answer in enumerate(answers))
    torch.testing.assert_close(private.task(0, private(h)), want)


def test_stitches_mix_the_towers_and_hard_sharing_is_the_identity() -> None:
    torch.manual_seed(0)
    sharing = CrossStitch(4, 2)
    h = torch.randn(5, 4)
    want = 0.9 * sharing.towers[0](h) + 0.1 * sharing.towers[1](h)
    torch.testing.assert_close(sharing.task(0, sharing(h)), want)
    assert Hard(4, 2).task(1, h) is h
    with pytest.raises(ValueError, match=r"task\.sharing='x'"):
        make_sharing("x", 4, 2, 2)
