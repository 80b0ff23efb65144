from __future__ import annotations

import torch

from kexue_pl.penalties.replay import Replay


def test_replays_any_number_of_times_and_leaves_no_trace() -> None:
    torch.manual_seed(5)
    replay = Replay()
    first = torch.rand(3)
    for _ in range(2):
        with replay.again():
            assert torch.equal(torch.rand(3), first)
    following = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(6)[3:], following)
