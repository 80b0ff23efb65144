"""The parts for text against ESM's own."""

from __future__ import annotations

import torch
import transformers as hf

from kexue_pl.models.text_body import GELULayer, suit_text


def body():
    torch.manual_seed(0)
    config = hf.EsmConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, position_embedding_type="none", token_dropout=False,
        emb_layer_norm_before=False, tie_word_embeddings=True, pad_token_id=0, mask_token_id=4,
    )  # fmt: skip
    return hf.EsmForMaskedLM(config).eval()


def test_the_widening_layer_gives_what_esm_gives():
    layer = body().esm.encoder.layer[0].intermediate
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    layer.double()
    want, got = layer(x), GELULayer(layer.dense)(x)
    assert torch.allclose(want, got, atol=1e-12)
    pair = [torch.autograd.grad(y.sin().sum(), x)[0] for y in (want, got)]
    assert torch.allclose(*pair, atol=1e-12)


def test_logits_are_states_times_words():
    model = body()
    suit_text(model)
    words = model.get_input_embeddings()
    ids = torch.randint(5, 40, (2, 7))
    with torch.no_grad():
        words.weight.normal_(0, 0.1)
        states = model.esm(ids).last_hidden_state
        logits = model(ids).logits
        assert torch.allclose(logits, states @ words.weight.T, atol=1e-5)
        # the layers see the rows eight times as large
        words.factor = 1.0
        words.weight.mul_(8.0)
        assert torch.allclose(model.esm(ids).last_hidden_state, states, atol=1e-5)
    model.lm_head.decoder.bias.data.fill_(1.0)
    assert torch.allclose(model(ids).logits, states @ words.weight.T + 1, atol=1e-4)
