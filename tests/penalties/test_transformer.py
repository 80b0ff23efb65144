"""Every penalty trains a Hugging Face BERT with its default attention, unaided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from kexue_pl.penalties import (
    FGM,
    PGD,
    SAM,
    VAT,
    Flooding,
    InputGradient,
    ParameterGradient,
    Penalty,
    check_twice_differentiable,
    record_output,
)

PENALTIES: dict[str, Callable[[], Penalty]] = {
    "input_gradient": lambda: InputGradient(weight=0.1),
    "input_gradient, finite difference": lambda: InputGradient(
        weight=0.1, method="finite_difference"
    ),
    "parameter_gradient": lambda: ParameterGradient(weight=0.01),
    "parameter_gradient, finite difference": lambda: ParameterGradient(
        weight=0.01, method="finite_difference"
    ),
    "parameter_gradient, per sample": lambda: ParameterGradient(
        weight=0.01, reduction="sample", uncovered="ignore"
    ),
    "fgm": lambda: FGM(epsilon=0.05),
    "pgd": lambda: PGD(epsilon=0.05, alpha=0.03, steps=2),
    "sam": lambda: SAM(),
    "vat": lambda: VAT(epsilon=0.05),
    "flooding": lambda: Flooding(),
}


def _bert() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    net = BertForSequenceClassification(
        BertConfig(
            vocab_size=30,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=12,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=2,
        )
    )
    assert net.config._attn_implementation == "sdpa"
    ids = torch.randint(1, 30, (8, 10))
    ids[:4, 7:] = 0
    return net, ids, (ids != 0).long(), (ids[:, 1] > 14).long()


@pytest.mark.parametrize("name", list(PENALTIES))
def test_bert_with_default_attention_trains(name: str) -> None:
    net, ids, mask, labels = _bert()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    penalty = PENALTIES[name]()

    def closure() -> Tensor:
        logits = net(input_ids=ids, attention_mask=mask).logits
        return F.cross_entropy(record_output(logits), labels)

    start = closure().item()
    for _ in range(8):
        optimizer.zero_grad()
        total = penalty.loss(
            closure,
            parameters=list(net.parameters()),
            embeddings=net.bert.embeddings.word_embeddings,
        )
        total.backward()
        penalty.after_backward()
        optimizer.step()
    assert penalty.value is not None
    assert torch.isfinite(penalty.value)
    assert closure().item() < start - 0.01


def test_without_help_the_fused_kernel_is_named() -> None:
    net, ids, mask, labels = _bert()
    loss = F.cross_entropy(net(input_ids=ids, attention_mask=mask).logits, labels)
    with pytest.raises(RuntimeError, match=r"penalty\.method=finite_difference"):
        check_twice_differentiable(loss)
