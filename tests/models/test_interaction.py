from __future__ import annotations

import pytest
import torch

from kexue_pl.models import match_types, maxsim
from kexue_pl.models.interaction import check_interaction


def tokens() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(2, n, 3, generator=generator) for n in (4, 3))
    return (
        left,
        torch.tensor([[1.0, 1, 2, 0], [1, 0, 0, 0]]),
        right,
        torch.tensor([[1.0, 1, 0]] * 2),
    )


def test_maxsim_is_symmetric_and_bounded() -> None:
    u, a, v, b = tokens()
    torch.testing.assert_close(maxsim(u, a, v, b), maxsim(v, b, u, a))
    assert (maxsim(u, a, v, b).abs() <= 1).all()
    torch.testing.assert_close(maxsim(u, a, u, a), torch.ones(2))


def test_maxsim_equals_loops() -> None:
    u, a, v, b = tokens()
    cos = torch.cosine_similarity(u[:, :, None], v[:, None], dim=-1)
    for i in range(2):
        m, n = int((a[i] > 0).sum()), int((b[i] > 0).sum())
        forth = (cos[i, :m, :n].amax(1) * a[i, :m]).sum() / a[i].sum()
        back = (cos[i, :m, :n].amax(0) * b[i, :n]).sum() / b[i].sum()
        torch.testing.assert_close(maxsim(u, a, v, b)[i], (forth + back) / 2)


def test_maxsim_ignores_padding() -> None:
    u, a, v, b = tokens()
    noisy = u.masked_fill((a == 0)[..., None], 7.0)
    torch.testing.assert_close(maxsim(noisy, a, v, b), maxsim(u, a, v, b))


def test_match_types_skip_special_tokens() -> None:
    ids = torch.tensor([[2, 9, 8, 3, 8, 7, 3]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1, 1]])
    special = torch.isin(ids, torch.tensor([2, 3]))
    assert match_types(ids, types, special).tolist() == [[0, 0, 2, 0, 3, 1, 1]]


def test_unknown_interaction() -> None:
    with pytest.raises(ValueError, match=r"model.interaction='dual': expected one of bi, late"):
        check_interaction("dual")
