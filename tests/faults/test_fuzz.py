"""Generated input: no crash, nothing but typed errors. Ten thousand: ``scripts/bench/fuzz.py``."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.fuzzing import CHECKS

FAST = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("name", CHECKS)
@FAST
@given(data=st.data())
def test_fuzz(name: str, data: Any) -> None:
    inputs, check = CHECKS[name]
    check(data.draw(inputs))
