from __future__ import annotations

import torch
from torch import nn

from kexue_pl.optim.keep_dtype import keep_dtype


def test_only_prefixed_entries_of_the_right_parameter_keep_their_dtype() -> None:
    a = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    b = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    sgd = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    sgd.state[b] = {"eg_x": torch.tensor([0.1, 0.2]), "other": torch.tensor([0.1, 0.2])}
    saved = sgd.state_dict()
    handles = keep_dtype(sgd, "eg_")
    sgd.load_state_dict(saved)
    assert sgd.state[b]["eg_x"].dtype == torch.float32
    assert sgd.state[b]["other"].dtype == torch.bfloat16
    assert a not in sgd.state
    for handle in handles:
        handle.remove()
    sgd.load_state_dict(saved)
    assert sgd.state[b]["eg_x"].dtype == torch.bfloat16
