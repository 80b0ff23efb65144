from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kexue_pl.balancers import MGDA, Equal, Geometric
from kexue_pl.penalties import FGM, SAM, VAT, InputGradient, ParameterGradient, Penalty
from tests.tasks.multi import AutomaticSum, digits, fit, task

PENALTIES: dict[str, Callable[[], Penalty]] = {
    "input_gradient": lambda: InputGradient(weight=1.0),
    "parameter_gradient": lambda: ParameterGradient(weight=0.1),
    "fgm": lambda: FGM(epsilon=0.5),
    "sam": lambda: SAM(rho=0.1),
}


@pytest.mark.parametrize("name", list(PENALTIES))
def test_a_penalised_sum_by_hand_is_the_one_of_automatic_optimization(name: str) -> None:
    manual = fit(task(digits(), Equal(), penalty=PENALTIES[name]()), 4)
    automatic = fit(task(digits(), Equal(), AutomaticSum, penalty=PENALTIES[name]()), 4)
    assert torch.allclose(manual, automatic, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(manual, fit(task(digits(), Equal()), 4), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batches", [1, 2])
def test_the_plain_penalty_changes_nothing_under_weights_and_accumulation(batches: int) -> None:
    words = {"accumulate_grad_batches": batches}
    plain = fit(task(digits(), Geometric()), 3, **words)
    assert torch.equal(plain, fit(task(digits(), Geometric(), penalty=Penalty()), 3, **words))


def test_every_head_records_its_prediction() -> None:
    model = task(digits(), Equal(), penalty=VAT(epsilon=1.0))
    fit(model, 2)
    assert model.penalty is not None
    assert model.penalty.value > 0


def test_rules_on_gradients_refuse_it() -> None:
    with pytest.raises(ValueError, match=r"MGDA.*balancer=equal.*penalty=none"):
        task(digits(), MGDA(), penalty=SAM())
    with pytest.raises(ValueError, match=r"task\.heads=own"):
        task(digits(), Equal(), penalty=SAM(), heads="own")
