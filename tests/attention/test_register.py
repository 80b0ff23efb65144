"""Registration, per-layer values, the guard, a stranger's three lines."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from kexue_pl.attention import (
    EntropyInvariant,
    NaturalLog,
    SSMax,
    Standard,
    apply_attention,
    attach,
    guard,
    install,
    register,
    registered,
)
from tests.attention.tiny import SIZE, build, inputs, loud


def test_three_lines_on_a_local_folder(tmp_path):
    torch.manual_seed(0)
    plain = loud(hf.BertModel(hf.BertConfig(**SIZE)))
    plain.save_pretrained(tmp_path)
    ids, padding = inputs()

    function = register("three_lines", EntropyInvariant())
    model = hf.AutoModel.from_pretrained(tmp_path, attn_implementation="three_lines").eval()
    with torch.no_grad():
        changed = model(ids, attention_mask=padding).last_hidden_state
        before = plain(ids, attention_mask=padding).last_hidden_state
    assert function.calls == 2
    assert (changed - before).abs().max() > 1e-3


def test_install_swaps_a_scaling_and_takes_the_old_values_away():
    model = build("bert", "sdpa")
    ids, _ = inputs()
    install(model, SSMax())
    values = [p for name, p in model.named_parameters() if "attention_scaling" in name]
    assert [tuple(p.shape) for p in values] == [(4,), (4,)]
    model.train()
    model(ids).last_hidden_state.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in values)
    install(model.eval(), Standard())
    assert not any("attention_scaling" in name for name, _ in model.named_parameters())
    with torch.no_grad():
        same = model(ids).last_hidden_state
        assert torch.equal(same, build("bert", "sdpa")(ids).last_hidden_state)


def test_learned_values_are_saved_and_loaded():
    first, second = build("bert", "sdpa"), build("bert", "sdpa")
    for model in (first, second):
        install(model, SSMax(bias=True))
    with torch.no_grad():
        for name, value in first.named_parameters():
            if "attention_scaling" in name:
                value.normal_()
    second.load_state_dict(first.state_dict())
    ids, padding = inputs()
    with torch.no_grad():
        a, b = (m(ids, attention_mask=padding).last_hidden_state for m in (first, second))
    assert torch.equal(a, b)


def test_learned_scaling_without_own_values_is_refused_in_training():
    register("unattached", SSMax())
    ids, _ = inputs()
    model = build("bert", "unattached")
    model(ids)  # evaluation with the starting values is fine
    with pytest.raises(RuntimeError, match=r"attach\(model\)"):
        model.train()(ids)


def test_apply_attention_gives_each_model_a_name_of_its_own():
    configs = [hf.BertConfig(**SIZE) for _ in range(2)]
    names = [apply_attention(configs[0], NaturalLog()), apply_attention(configs[1], Standard())]
    assert len(set(names)) == 2
    models = [hf.BertModel(config) for config in configs]
    assert [m.config._attn_implementation for m in models] == names
    assert [attach(m).name for m in models] == names


def test_attach_reaches_every_family():
    for kind, layers in (("modernbert", 2), ("t5", 2), ("llama", 2), ("nomic_bert", 2)):
        model = build(kind, "sdpa")
        install(model, SSMax())
        found = [name for name, _ in model.named_parameters() if name.endswith(".scale")]
        assert len([n for n in found if "attention_scaling" in n]) == layers


def test_attach_reaches_encoder_and_decoder():
    config = hf.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    model = hf.T5ForConditionalGeneration(config)
    install(model, SSMax())
    found = [name for name, _ in model.named_parameters() if "attention_scaling" in name]
    assert len(found) == 3  # encoder, decoder, and the decoder's view of the encoder


@pytest.mark.filterwarnings("ignore")
def test_a_model_that_never_calls_the_function_is_refused():
    register("deaf", EntropyInvariant())
    config = hf.RoFormerConfig(**SIZE, embedding_size=32)
    model = hf.RoFormerModel._from_config(config, attn_implementation="deaf")
    guard(model, registered("deaf"))
    with pytest.raises(RuntimeError, match="RoFormerModel never called"):
        model(inputs()[0])
    with pytest.raises(RuntimeError, match="never called"):
        register("deaf", SSMax())
        attach(hf.RoFormerModel._from_config(config, attn_implementation="deaf"))


def test_guard_lets_a_good_model_pass_and_goes_away():
    model = build("bert", "sdpa")
    install(model, EntropyInvariant())
    assert len(model._forward_hooks) == 1
    with torch.no_grad():
        model(inputs()[0])
    assert len(model._forward_hooks) == 0


def test_a_replaced_scaling_does_not_refuse():
    model = hf.BertForMaskedLM(hf.BertConfig(**SIZE))
    install(model, EntropyInvariant())
    install(model, SSMax())  # looks for the layers by a forward pass
    with torch.no_grad():
        model.bert(inputs()[0])
    assert len(model.bert._forward_hooks) == 0


def test_unknown_name_and_foreign_module():
    with pytest.raises(KeyError, match="not registered by"):
        registered("nowhere")
    with pytest.raises(TypeError, match="Linear holds no transformers model"):
        install(torch.nn.Linear(2, 2), Standard())


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_gives_the_same_loss():
    ids, padding = inputs()
    losses = []
    for checkpointing in (False, True):
        model = build("bert", "sdpa").train()
        install(model, EntropyInvariant(base=16))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
        loss = model(ids, attention_mask=padding).last_hidden_state.square().mean()
        loss.backward()
        losses.append((loss.item(), model.embeddings.word_embeddings.weight.grad.norm().item()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
