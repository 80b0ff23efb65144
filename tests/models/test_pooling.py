from __future__ import annotations

import pytest
import torch

from kexue_pl.models import POOLINGS, pool


@pytest.mark.parametrize("how", POOLINGS)
def test_padding_never_counts(how: str) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 5, 4, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    wanted = [
        pool(states[i : i + 1, :n], mask[i : i + 1, :n], how) for i, n in enumerate((5, 3, 1))
    ]
    noisy = states.masked_fill((mask == 0)[..., None], 1e6)
    assert torch.equal(pool(noisy, mask, how), pool(states, mask, how))
    torch.testing.assert_close(pool(noisy, mask, how), torch.cat(wanted))


def test_unmasked_mean_would_differ() -> None:
    states, mask = torch.tensor([[[1.0], [5.0]]]), torch.tensor([[1, 0]])
    assert float(pool(states, mask, "mean")) != float(states.mean())


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match=r"model.pooling='avg': expected one of cls, mean, max"):
        pool(torch.zeros(1, 1, 1), torch.ones(1, 1), "avg")
