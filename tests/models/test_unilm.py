"""No leak, and step by step equals teacher forcing."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from kexue_pl.attention import EntropyInvariant, Scaling, Standard
from kexue_pl.models.tree_decoder import TreeDecoder
from kexue_pl.models.unilm import UniLM
from kexue_pl.models.unilm_model import UniLMModel
from kexue_pl.penalties import recorded_outputs

VOCABULARY, CLS, SEP = 40, 1, 2


class Tokens:
    pad_token_id = 0

    def __len__(self) -> int:
        return VOCABULARY


def small(attention: Scaling | None = None, *, copy: bool = True, kind: str = "sdpa") -> UniLMModel:
    """A model; a kind that begins with "rope" has rotary positions."""
    torch.manual_seed(0)
    positions = "rope" if kind.startswith("rope") else "absolute"
    spec = UniLM(hidden_size=32, layers=2, heads=2, max_length=48, copy=copy, positions=positions)
    model = spec.build(Tokens(), attention=attention).eval()
    torch.nn.init.normal_(model.head.bias, std=1.0)
    if attention is None:
        model.body.set_attn_implementation(kind.removeprefix("rope "))
    return model


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Two rows of different length: 6 + 5 and 4 + 3 tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (2, 11), generator=generator)
    segment = torch.tensor([[0] * 6 + [1] * 5, [0] * 4 + [1] * 3 + [0] * 4])
    mask = torch.tensor([[1] * 11, [1] * 7 + [0] * 4])
    return {"input_ids": ids * mask, "segment": segment * mask, "attention_mask": mask}


KINDS = [
    ("eager", None),
    ("sdpa", None),
    ("ours", EntropyInvariant(base=8, floor=2)),
    ("plain", Standard()),
    ("rope eager", None),
    ("rope sdpa", None),
    ("rope", EntropyInvariant(base=8, floor=2)),
]


@pytest.mark.parametrize(("kind", "attention"), KINDS)
@torch.no_grad()
def test_future_target_tokens_change_nothing_before_them(kind: str, attention: Any) -> None:
    model, rows = small(attention, kind=kind), batch()
    before = model(**rows)
    for at in range(7, 11):
        changed = {**rows, "input_ids": rows["input_ids"].clone()}
        changed["input_ids"][0, at] = 3 if rows["input_ids"][0, at] != 3 else 4
        after = model(**changed)
        assert torch.equal(before[0, :at], after[0, :at])
        assert torch.equal(before[1], after[1])
        assert not torch.equal(before[0, at], after[0, at])


@pytest.mark.parametrize(("kind", "attention"), KINDS)
@torch.no_grad()
def test_padding_changes_nothing(kind: str, attention: Any) -> None:
    model, rows = small(attention, kind=kind), batch()
    alone = {k: v[1:, :7] for k, v in rows.items()}
    torch.testing.assert_close(model(**rows)[1, :7], model(**alone)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["eager"])
@torch.no_grad()
def test_a_boolean_mask_would_leak(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what the additive mask is for."""
    model, rows = small(kind=kind), batch()
    monkeypatch.setattr("kexue_pl.models.unilm_model.additive", lambda sees, dtype: sees)
    changed = {**rows, "input_ids": rows["input_ids"].clone()}
    changed["input_ids"][0, 10] = 3 if rows["input_ids"][0, 10] != 3 else 4
    assert not torch.equal(model(**rows)[0, :10], model(**changed)[0, :10])


@torch.no_grad()
def test_source_sees_itself_both_ways() -> None:
    model, rows = small(), batch()
    changed = {**rows, "input_ids": rows["input_ids"].clone()}
    changed["input_ids"][0, 5] = 3 if rows["input_ids"][0, 5] != 3 else 4
    assert not torch.equal(model(**rows)[0, 0], model(**changed)[0, 0])


@pytest.mark.parametrize("copy", [True, False])
@torch.no_grad()
def test_outputs_are_distributions_and_unseen_tokens_can_be_copied(copy: bool) -> None:
    model, rows = small(copy=copy), batch()
    log_p = model(**rows)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(2, 11))
    if copy:
        model.head.bias[30] = -50.0
        model.head.gate.bias.fill_(10.0)
        rows["input_ids"][0, 2] = 30
        assert float(model(**rows)[0, 5, 30]) > -4


@pytest.mark.parametrize(("kind", "attention"), KINDS)
def test_tree_decoder_equals_teacher_forcing(kind: str, attention: Any) -> None:
    """Random beams that branch, reorder and end at different times."""
    model = small(attention, kind=kind)
    rng = np.random.default_rng(0)
    sizes = [6, 4, 9]
    ids = torch.zeros(3, 9, dtype=torch.long)
    for b, size in enumerate(sizes):
        ids[b, :size] = torch.from_numpy(rng.integers(3, VOCABULARY, size))
    mask = (torch.arange(9) < torch.tensor(sizes)[:, None]).long()
    decoder = TreeDecoder(model, ids, mask)
    log_p, question, prefixes = decoder.start(), np.arange(3), [()] * 3
    for step in range(4):
        for b, prefix in enumerate(prefixes):
            want = forced(model, ids[question[b], : sizes[question[b]]], prefix)
            torch.testing.assert_close(log_p[b], want, atol=1e-5, rtol=1e-5)
        alive = [q for q in range(3) if step < 2 + q]
        pick = [int(p) for q in alive for p in rng.choice(np.flatnonzero(question == q), 1 + q)]
        parent = np.array(pick)
        token = rng.integers(3, VOCABULARY, len(parent))
        prefixes = [(*prefixes[p], int(t)) for p, t in zip(parent, token, strict=True)]
        question = question[parent]
        log_p = decoder.step(question, parent, token)


@torch.no_grad()
def forced(model: UniLMModel, source: torch.Tensor, prefix: tuple[int, ...]) -> torch.Tensor:
    ids = torch.cat([source, torch.tensor(prefix, dtype=torch.long)])[None]
    segment = torch.zeros_like(ids)
    segment[0, len(source) :] = 1
    return model(ids, segment, torch.ones_like(ids))[0, -1]


@pytest.mark.parametrize("copy", [True, False])
@torch.no_grad()
def test_target_log_p_counts_the_key_only(copy: bool) -> None:
    model, rows = small(copy=copy), batch()
    got = model.target_log_p(**rows)
    log_p, ids = model(**rows), rows["input_ids"]
    assert got.shape == (2, 5) and got[1, 3:].eq(0).all()
    want = [float(log_p[0, i, ids[0, i + 1]]) for i in range(5, 10)]
    assert got[0].tolist() == pytest.approx(want, abs=1e-5)
    want = [float(log_p[1, i, ids[1, i + 1]]) for i in range(3, 6)]
    assert got[1, :3].tolist() == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("copy", [True, False])
def test_one_token_has_the_gradients_of_the_whole_distribution(copy: bool) -> None:
    model, rows = small(copy=copy), batch()
    ids, grads = rows["input_ids"], []
    chosen = [(0, i) for i in range(5, 10)] + [(1, i) for i in range(3, 6)]
    whole = lambda: sum(model(**rows)[b, i, ids[b, i + 1]] for b, i in chosen)  # noqa: E731
    for loss in (lambda: model.target_log_p(**rows).sum(), whole):
        model.zero_grad()
        torch.autograd.backward(loss())
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("copy", [True, False])
def test_choices_are_sums_of_the_whole_distribution(copy: bool, watched: bool) -> None:
    """Also the way of a penalty that watches the whole prediction."""
    model, rows = small(copy=copy), batch()
    choices = torch.full((2, 5, 3), -1)
    choices[0, 1], choices[1, 2] = torch.tensor([3, 4, 5]), torch.tensor([7, 8, 9])
    choices[0, 4, 0] = 6  # a lone one
    with recorded_outputs() if watched else nullcontext():
        log_p, total = model.choice_log_p(**rows, choices=choices)
    torch.testing.assert_close(log_p, model.target_log_p(**rows))
    whole, want = model(**rows), torch.zeros(2, 5)
    want[0, 1] = whole[0, 6, [3, 4, 5]].logsumexp(-1)
    want[0, 4] = whole[0, 9, 6]
    want[1, 2] = whole[1, 5, [7, 8, 9]].logsumexp(-1)
    torch.testing.assert_close(total, want, atol=1e-5, rtol=1e-5)
    total.sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_indivisible_heads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model.hidden_size=30, model.heads=4"):
        UniLM(hidden_size=30)


@torch.no_grad()
def test_rotary_logits_depend_on_distances_alone() -> None:
    model, rows = small(kind="rope sdpa"), batch()
    for layer in model.body.encoder.layer:  # attention that is not almost even
        layer.attention.self.query.weight.mul_(20)
        layer.attention.self.key.weight.mul_(20)
    ids, segment, sees = rows["input_ids"], rows["segment"], torch.ones(2, 11, 11).bool()
    places = torch.arange(11).expand(2, 11)
    first, moved, spread = (
        model.states(ids, segment, sees, positions)
        for positions in (places, places + 30, 2 * places)
    )
    torch.testing.assert_close(first, moved, atol=1e-5, rtol=1e-5)
    assert (first - spread).abs().max() > 1e-2


def test_a_pretrained_roformer_gives_its_own_states(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.RoFormerConfig(
        vocab_size=VOCABULARY,
        embedding_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
    )
    original = hf.RoFormerModel(config).eval()
    with torch.no_grad():
        for parameter in original.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    original.save_pretrained(tmp_path)
    tokenizer = SimpleNamespace(get_vocab=lambda: {"a": VOCABULARY - 1})
    model = UniLM(pretrained=str(tmp_path)).build(tokenizer).eval()
    rows = batch()
    ids, segment = rows["input_ids"][:1], rows["segment"][:1]
    with torch.no_grad():
        want = original(ids, token_type_ids=segment).last_hidden_state
        got = model.states(ids, segment, torch.ones(1, 11, 11, dtype=torch.bool))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_a_roformer_that_does_not_fit_is_refused_with_its_setting(tmp_path: Path) -> None:
    hf.RoFormerConfig(embedding_size=16, hidden_size=32).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model.pretrained=.*embedding_size=16, hidden_size=32"):
        UniLM(pretrained=str(tmp_path)).build(SimpleNamespace())


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"model.positions='alibi': expected one of absolute, rope"
    ):
        UniLM(positions="alibi")
