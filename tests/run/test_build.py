"""Whole numbers stand for floats where a constructor asks for one, and for nothing else."""

from __future__ import annotations

import pytest

from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.run.build import build

MODELS = ("small.Small", "masked_lm.MaskedLM", "unilm.UniLM", "encoder_decoder.EncoderDecoder")


@pytest.mark.parametrize("name", MODELS)
def test_a_dropout_of_zero_is_a_number_like_others(name: str) -> None:
    node = {"_target_": f"kexue_pl.models.{name}", "dropout": 0, "hidden_size": 8, "heads": 2}
    spec = build({**node, "layers": 1}, "model")
    assert type(spec.dropout) is float
    spec.build(train_tokenizer(["甲乙丙丁"], min_frequency=1))


def test_a_partial_is_given_floats_too() -> None:
    node = {"_target_": "kexue_pl.optim.egd.EGD", "_partial_": True, "lr": 1}
    assert type(build(node, "optimizer").keywords["lr"]) is float


def test_true_is_no_number() -> None:
    node = {"_target_": "kexue_pl.models.static.Static", "dropout": True}
    assert build(node, "model").dropout is True


def test_whole_numbers_stay_whole() -> None:
    spec = build({"_target_": "kexue_pl.models.small.Small", "hidden_size": 8, "heads": 2}, "model")
    assert type(spec.hidden_size) is type(spec.heads) is int
