from __future__ import annotations

import pytest

from kexue_pl.optim import EGStepSize, meta_rate


def test_the_sum_of_the_rates_does_not_depend_on_the_length() -> None:
    for horizon in (1000, 10000, 100000):
        rates = [
            meta_rate("auto", step=t, horizon=horizon, reach=138.0, most=0.2)
            for t in range(horizon)
        ]
        assert sum(rates) == pytest.approx(138.0 / 4, rel=1e-2)
        assert rates[horizon // 2] == pytest.approx(rates[0] / 8)
        assert rates[-1] < rates[0] / 100


def test_after_the_horizon_nothing_moves_and_short_runs_are_capped() -> None:
    assert meta_rate("auto", step=50, horizon=40, reach=138.0, most=0.2) == 0.0
    assert meta_rate("auto", step=0, horizon=40, reach=138.0, most=0.2) == 0.2


def test_parts_that_are_off_need_no_horizon() -> None:
    assert EGStepSize(scale="none", gain="none").rates(0, None) == (0.0, 0.0)


def test_without_momentum_the_scale_of_a_short_run_moves_at_half_the_rate() -> None:
    assert EGStepSize().rates(0, 100) == (0.2, 0.0)
    assert EGStepSize().rates(0, 100, momentum=False) == (0.1, 0.0)
    assert EGStepSize().rates(0, 5000, momentum=False) == EGStepSize().rates(0, 5000)
