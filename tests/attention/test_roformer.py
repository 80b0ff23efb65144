"""A converted RoFormer gives the logits of the original."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from kexue_pl.attention import EntropyInvariant, roformer_to_bert

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip


def roformer():
    torch.manual_seed(0)
    model = hf.RoFormerForMaskedLM(hf.RoFormerConfig(**SIZES, embedding_size=32)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def test_parity_with_roformer():
    original = roformer()
    copy = roformer_to_bert(original)
    changed = roformer_to_bert(original, EntropyInvariant(base=64))
    ids = torch.randint(3, 60, (2, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 20, dtype=torch.long)
    mask[1, 13:] = 0
    with torch.no_grad():
        for extra in ({}, {"attention_mask": mask}):
            valid = mask.bool() if extra else torch.ones_like(mask).bool()
            want, got = original(ids, **extra).logits[valid], copy(ids, **extra).logits[valid]
            assert (want - got).abs().max() < 1e-5
            assert (changed(ids, **extra).logits[valid] - got).abs().max() > 1e-3


def test_longer_inputs_than_the_original_took():
    copy = roformer_to_bert(roformer(), max_length=128)
    with torch.no_grad():
        assert copy(torch.zeros(1, 128, dtype=torch.long)).logits.isfinite().all()


def test_factorised_embeddings_are_refused():
    small = hf.RoFormerForMaskedLM(hf.RoFormerConfig(**SIZES, embedding_size=16))
    with pytest.raises(ValueError, match="embedding_size=16, hidden_size=32"):
        roformer_to_bert(small)
