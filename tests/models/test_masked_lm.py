"""The small masked language model: sizes, positions, chosen places, checkpoints from elsewhere."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from kexue_pl.attention import NTK, ALiBi, EntropyInvariant, ReRoPE, RoPE
from kexue_pl.data.recall import value_tokenizer
from kexue_pl.models.masked_lm import MaskedLM, make_positions
from kexue_pl.models.pretrained_mlm import PretrainedMLM

TINY = {"hidden_size": 16, "layers": 1, "heads": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return MaskedLM(vocab_size=300).train_tokenizer(["def foo(bar): return bar"] * 3)


def batch(vocabulary, n=12):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, vocabulary, (2, n), generator=generator)
    chosen = torch.rand(2, n, generator=generator) < 0.4
    return ids, chosen


@pytest.mark.parametrize("positions", ["rope", "ntk", "rerope", "alibi", "none"])
def test_chosen_places_alone_are_predicted(tokenizer, positions):
    net = MaskedLM(**TINY, positions=positions).build(tokenizer, train_length=8).eval()
    ids, chosen = batch(len(tokenizer))
    with torch.no_grad():
        some = net(ids, chosen)
        whole = net.model(input_ids=ids).logits
    assert some.shape == (int(chosen.sum()), len(tokenizer))
    assert torch.allclose(some, whole[chosen], atol=1e-5)


@pytest.mark.parametrize("positions", ["rope", "ntk", "rerope", "alibi", "none"])
def test_only_models_with_positions_tell_the_order(tokenizer, positions):
    net = MaskedLM(**TINY, positions=positions).build(tokenizer, train_length=8).eval()
    ids, _ = batch(len(tokenizer))
    first = torch.zeros_like(ids).bool()
    first[:, 0] = True
    swapped = torch.cat([ids[:, :1], ids[:, 1:].flip(1)], 1)
    with torch.no_grad():
        moved = (net(ids, first) - net(swapped, first)).abs().max()
    assert (moved < 1e-5) == (positions == "none")


def test_every_weight_gets_a_gradient(tokenizer):
    """Unused weights would break data parallelism."""
    net = MaskedLM(**TINY).build(tokenizer, segments=7)
    ids, chosen = batch(len(tokenizer))
    net(ids, chosen, token_type_ids=ids % 7).square().sum().backward()
    silent = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_words_of_text_are_tied_and_enter_eight_times_as_large(tokenizer):
    net = MaskedLM(**TINY).build(tokenizer)
    words, decoder = net.model.get_input_embeddings(), net.model.lm_head.decoder
    assert decoder.weight is words.weight
    assert words.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.allclose(net.embeddings(torch.tensor([[7]])), 8 * words.weight[7])
    ids, chosen = batch(len(tokenizer))
    even = torch.full((int(chosen.sum()), len(tokenizer)), 1 / len(tokenizer))
    assert torch.allclose(net(ids, chosen).softmax(-1), even, rtol=0.5)  # even guesses at first
    other = MaskedLM(**TINY).build(tokenizer)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.eval()(ids, chosen), net.eval()(ids, chosen))
    untied = MaskedLM(**TINY).build(value_tokenizer(4), segments=7)
    assert untied.model.lm_head.decoder.weight is not untied.embeddings.weight


def test_padding_does_not_leak(tokenizer):
    net = MaskedLM(**TINY).build(tokenizer, attention=EntropyInvariant(base=16)).eval()
    ids, chosen = batch(len(tokenizer))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    chosen = chosen & mask.bool()
    edited = torch.where(mask.bool(), ids, 7)
    with torch.no_grad():
        assert torch.equal(net(ids, chosen, mask), net(edited, chosen, mask))


def test_sizes_left_open_come_from_the_data():
    spec = MaskedLM(layers=1)
    net = spec.build(value_tokenizer(4), proportions={"hidden_size": 8, "layers": 2, "heads": 2})
    assert net.model.config.hidden_size == 8
    assert net.model.config.num_hidden_layers == 1
    with pytest.raises(ValueError, match=r"hidden_size=30, model\.heads=4"):
        MaskedLM(hidden_size=30).build(value_tokenizer(4))


def test_positions_by_name():
    kinds = {"rope": RoPE, "ntk": NTK, "rerope": ReRoPE, "alibi": ALiBi}
    for name, kind in kinds.items():
        assert type(make_positions(name, train_length=64)) is kind
    assert make_positions("rerope", train_length=64).window == 48
    with pytest.raises(ValueError, match="rope, ntk, rerope, alibi, none"):
        MaskedLM(positions="learned")


@pytest.mark.parametrize("kind", ["bert", "roformer"])
def test_a_saved_folder_is_continued(tmp_path, tokenizer, kind):
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
    }  # fmt: skip
    torch.manual_seed(0)
    if kind == "bert":
        saved = hf.BertForMaskedLM(hf.BertConfig(**sizes))
    else:
        saved = hf.RoFormerForMaskedLM(hf.RoFormerConfig(**sizes, embedding_size=16))
    with torch.no_grad():
        for name, parameter in saved.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    saved.eval().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = PretrainedMLM(path=str(tmp_path))
    loaded = spec.load_tokenizer()
    ids, chosen = batch(len(tokenizer))
    with torch.no_grad():
        want = saved(ids).logits[chosen]
        assert torch.allclose(spec.build(loaded).eval()(ids, chosen), want, atol=1e-5)
        other = spec.build(loaded, attention=EntropyInvariant(base=64)).eval()(ids, chosen)
    assert (other - want).abs().max() > 1e-3


def test_no_such_folder_and_data_with_symbols(tmp_path):
    with pytest.raises(ValueError, match=r"model\.path=.*nowhere"):
        PretrainedMLM(path=str(tmp_path / "nowhere")).load_tokenizer()
    with pytest.raises(ValueError, match="symbols of its own"):
        PretrainedMLM(path="nowhere").build(None, segments=4)
