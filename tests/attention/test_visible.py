"""n per query row against brute force."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.attention import Standard, count_visible, register, visible_mask
from kexue_pl.attention.visible import PerMask, additive_mask
from tests.attention.tiny import build, inputs, unilm

CPU = torch.device("cpu")


def seen_by_model(kind, ids, calls=1, **extra):
    """The counts that reach the function in each layer."""
    function = register("count_test", Standard())
    counts = []
    function.observers.append(lambda call: counts.append(call.n))
    with torch.no_grad():
        build(kind, "count_test")(input_ids=ids, **extra)
    assert len(counts) == 2
    return counts


def rows(n):
    return n.expand(2, 1, 16, 1)[:, 0, :, 0]


@pytest.mark.parametrize("kind", ["bert", "nomic_bert", "esm", "t5"])
def test_bidirectional_models(kind):
    ids, padding = inputs()
    full = torch.full((2, 16), 16)
    for extra in ({}, {"attention_mask": torch.ones_like(padding)}):
        assert all(torch.equal(rows(n), full) for n in seen_by_model(kind, ids, **extra))
    for mask in (padding, padding.flip(1)):
        expected = mask.sum(1, keepdim=True).expand(2, 16)
        counts = seen_by_model(kind, ids, attention_mask=mask)
        assert all(torch.equal(rows(n), expected) for n in counts)


@pytest.mark.parametrize("as_float", [False, True])
def test_unilm(as_float):
    ids, padding = inputs()
    allowed = unilm(padding, 8)
    mask = allowed
    if as_float:
        mask = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    counts = seen_by_model("bert", ids, attention_mask=mask)
    assert all(torch.equal(rows(n), allowed.sum(-1)[:, 0]) for n in counts)


def test_causal_and_left_padding():
    ids, padding = inputs()
    triangle = torch.ones(16, 16).tril().bool()
    for kind in ("qwen2", "llama"):
        counts = seen_by_model(kind, ids)
        assert all(torch.equal(rows(n), triangle.sum(-1).expand(2, 16)) for n in counts)
        left = padding.flip(1).bool()
        expected = (triangle[None] & left[:, None]).sum(-1)
        for n in seen_by_model(kind, ids, attention_mask=left.long()):
            assert torch.equal(rows(n)[left], expected[left])


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["qwen2_lm", "llama_lm"])
@pytest.mark.parametrize("padded", [False, True])
def test_cached_decoding(kind, padded):
    """Each new row counts the cache and itself, without padding on the left."""
    function = register("count_test", Standard())
    counts, past = [], None
    function.observers.append(lambda call: counts.append((call.offset, call.n)))
    ids, padding = inputs()
    left = padding.flip(1) if padded else torch.ones_like(padding)
    expected = (torch.ones(16, 16).tril().bool()[None] & left[:, None].bool()).sum(-1)
    model = build(kind, "count_test")
    for begin, end in ((0, 9), (9, 12), (12, 13), (13, 16)):
        counts.clear()
        extra = {"attention_mask": left[:, :end]} if padded else {}
        with torch.no_grad():
            past = model(
                ids[:, begin:end],
                past_key_values=past.past_key_values if past else None,
                use_cache=True,
                **extra,
            )
        assert [offset for offset, _ in counts] == [begin, begin]
        real = left[:, begin:end].bool()
        for _, n in counts:
            seen = n.expand(2, 1, end - begin, 1)[:, 0, :, 0]
            assert torch.equal(seen[real], expected[:, begin:end][real])


def test_sliding_window_counts_the_window():
    ids, padding = inputs()
    _, local = seen_by_model("modernbert", ids, attention_mask=padding)
    gap = (torch.arange(16)[:, None] - torch.arange(16)).abs() <= 4
    expected = (gap[None] & padding[:, None].bool()).sum(-1)
    assert torch.equal(rows(local)[padding.bool()], expected[padding.bool()])


def test_made_once_a_mask_and_again_after_a_change():
    count = PerMask(count_visible)
    mask = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    first = count(mask)
    assert count(mask) is first
    mask[:, :, :, 3] = False
    assert count(mask).unique().tolist() == [3]
    other = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    assert count(other).unique().tolist() == [4]
    with torch.inference_mode():
        frozen = torch.ones(1, 1, 2, 2, dtype=torch.bool)
        assert count(frozen).unique().tolist() == [2]


def test_made_again_for_other_settings_and_after_inference():
    additive, mask = PerMask(additive_mask), torch.tensor([[True, False]])
    with torch.inference_mode():
        assert additive(mask, torch.float32).is_inference()
    assert not additive(mask, torch.float32).is_inference()
    assert additive(mask, torch.float64).dtype == torch.float64
    assert additive(mask, torch.float32).dtype == torch.float32


def test_additive_masks_keep_expanded_rows():
    mask = torch.tensor([[True, False, True]])[:, None, None].expand(1, 4, 5, 3)
    made = additive_mask(mask, torch.float32)
    assert made.shape == mask.shape
    assert made.untyped_storage().nbytes() == 3 * 4
    assert torch.equal(made == 0, mask)
    assert bool((made[~mask] == -torch.inf).all())


def test_float_masks_of_any_precision():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        mask = torch.tensor([0.0, torch.finfo(dtype).min, -torch.inf, -3.0], dtype=dtype)
        assert visible_mask(mask).tolist() == [True, False, False, True]


def test_no_mask():
    assert count_visible(None, 1, 9, causal=True, device=CPU).item() == 9  # a decoding step
    assert count_visible(None, 3, 9, causal=False, device=CPU).item() == 9
    # PyTorch aligns causal rows with the first key; a static cache is filled that way.
    got = count_visible(None, 3, 9, causal=True, device=CPU).flatten().tolist()
    assert got == [1, 2, 3]
    q = k = torch.zeros(1, 1, 9, 2)
    v = torch.eye(9)[None, None]
    out = torch.nn.functional.scaled_dot_product_attention(q[:, :, :3], k, v, is_causal=True)
    assert (out > 0).sum(-1).flatten().tolist() == got
