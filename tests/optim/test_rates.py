from __future__ import annotations

import pytest

from kexue_pl.optim import EGStepSize, meta_rate


def test_the_sum_of_the_rates_does_not_depend_on_the_length() -> None:
    for horizon in (1000, 10000, 100000):
        rates = [
            meta_rate("auto", step=t, horizon=horizon, reach=138.0, most=0.2)
            for t in range(horizon)
        ]
        assert sum(rates) == pytest.approx(138.0 * 5 / 6, rel=1e-2)
        assert rates[horizon // 2] == rates[0]
        assert rates[-1] < rates[0] / 100


def test_after_the_horizon_nothing_moves_and_short_runs_are_capped() -> None:
    assert meta_rate("auto", step=50, horizon=40, reach=138.0, most=0.2) == 0.0
    assert meta_rate("auto", step=0, horizon=40, reach=138.0, most=0.2) == 0.2


def test_parts_that_are_off_need_no_horizon() -> None:
    assert EGStepSize(scale="none", gain="none").rates(0, None) == (0.0, 0.0)
