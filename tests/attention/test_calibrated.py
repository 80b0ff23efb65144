"""Calibration brings the entropy of every head back to its value at the training length."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.attention import Calibrated, EntropyProbe, Standard, calibrate, install
from tests.attention.tiny import build

LENGTHS = (16, 32, 64)


def batches():
    generator = torch.Generator().manual_seed(0)
    draw = {n: torch.randint(3, 50, (4, n), generator=generator) for n in LENGTHS}
    return {n: {"input_ids": ids} for n, ids in draw.items()}


def entropies(model, function, given):
    with EntropyProbe(function) as probe, torch.no_grad():
        model(**given)
    return probe.mean()


def test_entropy_at_every_length_equals_that_of_the_training_length():
    model, given = build("bert", "sdpa"), batches()
    function = install(model, Standard())
    before = [entropies(model, function, given[n]) for n in LENGTHS]
    assert (before[2] - before[0]).min() > 0.5  # the plain scale lets it grow

    function = install(model, Calibrated(train_length=16))
    calibrate(model, function, given)
    after = [entropies(model, function, given[n]) for n in LENGTHS]
    assert torch.allclose(after[0], before[0], atol=1e-5)
    assert torch.allclose(after[1], after[0], atol=1e-3)
    assert torch.allclose(after[2], after[0], atol=1e-3)


def test_tables_travel_with_the_state():
    model, given = build("bert", "sdpa"), batches()
    calibrate(model, install(model, Calibrated(train_length=16)), given)
    other = build("bert", "sdpa")
    install(other, Calibrated(train_length=16))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        for n in LENGTHS:
            a, b = (m(**given[n]).last_hidden_state for m in (model, other))
            assert torch.equal(a, b)


def test_ratio_is_interpolated_in_log_n():
    scaling = Calibrated(train_length=16)
    scaling._set(64, torch.tensor([0.4, 0.8]))
    n = torch.tensor([4, 16, 32, 64, 256]).view(1, 1, 5, 1)
    logs = scaling.ratio(n, 8).log()[0, :, :, 0]
    assert torch.allclose(logs[0], torch.tensor([0.0, 0.0, 0.2, 0.4, 0.8]), atol=1e-6)
    assert torch.allclose(logs[1], torch.tensor([0.0, 0.0, 0.4, 0.8, 1.6]), atol=1e-6)


def test_the_training_length_must_be_there():
    model = build("bert", "sdpa")
    function = install(model, Calibrated(train_length=8))
    with pytest.raises(ValueError, match="must begin with the training length 8"):
        calibrate(model, function, batches())
