from __future__ import annotations

import torch

from kexue_pl.penalties import record_output, recorded_outputs


def test_nested_listeners_and_silence_outside() -> None:
    a, b = torch.zeros(1), torch.ones(1)
    assert record_output(a) is a
    with recorded_outputs() as outer:
        record_output(a)
        with recorded_outputs() as inner:
            record_output(b)
        record_output(a)
    assert [t is a for t in outer] == [True, True]
    assert len(inner) == 1
    assert inner[0] is b
