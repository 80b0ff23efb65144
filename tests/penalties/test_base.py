from __future__ import annotations

import pytest
import torch

from kexue_pl.penalties import Penalty
from kexue_pl.penalties.base import check_choice, check_positive


def test_the_base_is_the_plain_loss() -> None:
    penalty = Penalty()
    assert penalty.loss(lambda: torch.tensor(3.0), parameters=[], embeddings=None) == 3
    penalty.after_backward()


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_numbers_out_of_range_are_named(value: float) -> None:
    with pytest.raises(ValueError, match=r"penalty x: rho=.* is refused.*penalty\.rho"):
        check_positive("x", rho=value)


def test_choices_are_listed() -> None:
    check_choice("x", "kind", "a", ("a", "b"))
    with pytest.raises(ValueError, match=r"accepted: a, b; set penalty\.kind=a"):
        check_choice("x", "kind", "c", ("a", "b"))
