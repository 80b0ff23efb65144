"""The attention function inside real models: masks, caches, biases, grouped heads, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kexue_pl.attention import (
    ALiBi,
    EntropyInvariant,
    KeyNorm,
    LogNClipped,
    QKNorm,
    ReRoPE,
    RoPE,
    ScaledAttention,
    Scaling,
    SqrtLog,
    Standard,
    YaRN,
    register,
    roformer_to_bert,
)
from tests.attention.tiny import ENCODERS, SIZE, build, inputs, loud, unilm

SHARP = EntropyInvariant(base=4.0, floor=1.0)


class Constant(Scaling):
    """A ratio of one number, per row so that it goes the way of the queries."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def ratio(self, n, d):
        return torch.full(n.shape, self.value)


@torch.no_grad()
def run(kind, attention, ids, **extra):
    model = build(kind, attention)
    return model(input_ids=ids, **extra).last_hidden_state


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("scaling", [SHARP, QKNorm(), KeyNorm()], ids=lambda s: type(s).__name__)
def test_editing_padding_never_changes_valid_tokens(kind, scaling):
    register("leak_test", scaling)
    ids, padding = inputs()
    edited = torch.where(padding.bool(), ids, (ids + 7) % 47 + 3)
    before = run(kind, "leak_test", ids, attention_mask=padding)
    after = run(kind, "leak_test", edited, attention_mask=padding)
    valid = padding.bool()
    assert torch.equal(before[valid], after[valid])
    moved = run(kind, "leak_test", (ids + 7) % 47 + 3, attention_mask=padding)
    assert (moved - before)[valid].abs().max() > 1e-3  # the test sees changes of valid tokens


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_editing_left_padding_never_changes_valid_tokens(kind):
    register("leak_test", SHARP)
    ids, padding = inputs()
    padding = padding.flip(1)
    edited = torch.where(padding.bool(), ids, (ids + 7) % 47 + 3)
    before, after = (run(kind, "leak_test", i, attention_mask=padding) for i in (ids, edited))
    assert torch.equal(before[padding.bool()], after[padding.bool()])


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["qwen2_lm", "llama_lm"])
def test_editing_padding_never_reaches_cached_decoding(kind):
    """Grouped heads, a prompt padded on the left, then one token at a time."""
    register("leak_test", SHARP)
    ids, padding = inputs()
    padding = padding.flip(1)
    model = build(kind, "leak_test")

    @torch.no_grad()
    def decoded(ids):
        past, steps = None, []
        for begin, end in ((0, 9), *((t, t + 1) for t in range(9, 16))):
            past = model(
                ids[:, begin:end],
                attention_mask=padding[:, :end],
                past_key_values=past.past_key_values if past else None,
                use_cache=True,
            )
            steps.append(past.logits)
        return torch.cat(steps, 1)

    other = (ids + 7) % 47 + 3
    before = decoded(ids)
    assert torch.equal(
        before[padding.bool()], decoded(torch.where(padding.bool(), ids, other))[padding.bool()]
    )
    assert (before - decoded(other))[padding.bool()].abs().max() > 1e-3


def test_editing_padding_never_reaches_the_decoder_of_t5():
    import transformers as hf

    register("leak_test", SHARP)
    config = hf.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    make = hf.T5ForConditionalGeneration
    model = loud(make._from_config(config, attn_implementation="leak_test"))
    ids, padding = inputs()
    other = (ids + 7) % 47 + 3

    @torch.no_grad()
    def logits(source):
        target = ids.flip(0)  # padded as the source's rows are, the other way round
        return model(
            input_ids=source,
            attention_mask=padding,
            decoder_input_ids=target,
            decoder_attention_mask=padding.flip(0),
        ).logits

    before = logits(ids)
    assert torch.equal(before, logits(torch.where(padding.bool(), ids, other)))
    assert (before - logits(other)).abs().max() > 1e-3


def test_editing_padding_never_reaches_a_converted_roformer():
    import transformers as hf

    torch.manual_seed(0)
    original = hf.RoFormerForMaskedLM(hf.RoFormerConfig(**SIZE, embedding_size=32))
    model = loud(roformer_to_bert(original, SHARP))
    ids, padding = inputs()
    other = (ids + 7) % 47 + 3
    with torch.no_grad():
        before, after, moved = (
            model(given, attention_mask=padding).logits[padding.bool()]
            for given in (ids, torch.where(padding.bool(), ids, other), other)
        )
    assert torch.equal(before, after)
    assert (before - moved).abs().max() > 1e-3


@pytest.mark.parametrize("kind", [*ENCODERS, "qwen2", "llama"])
def test_factor_one_is_sdpa_bit_for_bit(kind):
    register("one_test", Constant(1.0))
    register("standard_test", Standard())
    ids, padding = inputs()
    for extra in ({}, {"attention_mask": padding}):
        plain = run(kind, "sdpa", ids, **extra)
        assert torch.equal(run(kind, "standard_test", ids, **extra), plain)
        if extra:  # without a mask the constant goes into `scale`, where 1.0 * s is s as well
            assert torch.equal(run(kind, "one_test", ids, **extra), plain)


@pytest.mark.parametrize("kind", [*ENCODERS, "qwen2", "llama"])
def test_all_ones_is_no_mask(kind):
    register("ones_test", SHARP)
    ids, padding = inputs()
    none = run(kind, "ones_test", ids)
    ones = run(kind, "ones_test", ids, attention_mask=torch.ones_like(padding))
    assert torch.allclose(none, ones, atol=2e-6)


# ESM multiplies its words by the mask and so takes padding masks alone.
@pytest.mark.parametrize("kind", [*(k for k in ENCODERS if k != "esm"), "qwen2", "llama"])
def test_bool_and_float_masks_agree_and_empty_rows_are_finite(kind):
    register("unilm_test", SHARP)
    ids, padding = inputs()
    allowed = unilm(padding, 8)
    floats = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    first = run(kind, "unilm_test", ids, attention_mask=allowed)
    second = run(kind, "unilm_test", ids, attention_mask=floats)
    assert torch.allclose(first, second, atol=2e-6)
    empty = allowed.clone()
    empty[1, :, 3] = False
    assert run(kind, "unilm_test", ids, attention_mask=empty).isfinite().all()


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["qwen2_lm", "llama_lm"])
def test_cached_decoding_equals_the_full_forward(kind):
    register("cache_test", SHARP)
    ids, _ = inputs()
    model = build(kind, "cache_test")
    with torch.no_grad():
        whole = model(ids).logits
        past = model(ids[:, :6], use_cache=True)
        steps = [past.logits]
        for at in (slice(6, 9), *(slice(t, t + 1) for t in range(9, 16))):  # also several at once
            past = model(ids[:, at], past_key_values=past.past_key_values, use_cache=True)
            steps.append(past.logits)
        model.set_attn_implementation("sdpa")
        effect = (whole - model(ids).logits).abs().max()
    assert effect > 0.01
    assert (whole - torch.cat(steps, 1)).abs().max() < 1e-5 * max(1.0, float(effect))


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")
def test_static_cache_counts_from_the_mask():
    from transformers import StaticCache

    register("static_test", SHARP)
    ids, _ = inputs()
    model = build("qwen2_lm", "static_test")
    cache = StaticCache(config=model.config, max_cache_len=32)
    with torch.no_grad():
        whole = model(ids).logits
        steps = [model(ids[:, :6], past_key_values=cache, use_cache=True).logits]
        steps += [
            model(ids[:, t : t + 1], past_key_values=cache, use_cache=True).logits
            for t in range(6, 16)
        ]
    assert (whole - torch.cat(steps, 1)).abs().max() < 1e-5


def test_t5_bias_is_not_scaled():
    register("zero_test", Constant(0.0))
    ids, padding = inputs()
    model = build("t5", "zero_test")
    bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    with torch.no_grad():
        bias.weight.normal_(0, 3)
        moved = model(input_ids=ids, attention_mask=padding).last_hidden_state
        bias.weight.zero_()
        flat = model(input_ids=ids, attention_mask=padding).last_hidden_state
    assert (moved - flat).abs().max() > 1e-3


class Layer(torch.nn.Module):
    """Just enough of an attention layer."""

    is_causal = False

    def __init__(self, groups: int = 1, causal: bool = False) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = causal


def explicit(q, k, v, scaling, mask):
    """Softmax attention with the factor of each row, written out."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    q, k = scaling.transform(q, k)
    n = mask.sum(-1, keepdim=True).to(q.dtype)
    logits = scaling.factor(n, q.shape[-1]) * (q @ k.transpose(-1, -2))
    return (logits.masked_fill(~mask, -torch.inf).softmax(-1) @ v).transpose(1, 2)


@pytest.mark.parametrize(
    "scaling",
    [Standard(), SHARP, SqrtLog(4.0), YaRN(3), LogNClipped(3), QKNorm("log_n"), KeyNorm()],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("causal", [False, True])
def test_output_and_gradients_in_float64(scaling, causal):
    torch.manual_seed(0)
    function = ScaledAttention("direct", scaling)
    layer = Layer(groups=2, causal=causal).eval()
    q = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    k = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    if causal:
        mask = mask.tril()
    padded = mask.clone()
    padded[1, :, :, 4] = False
    for given, used in ((None, mask), (padded, padded)):
        got, _ = function(layer, q, k, v, given)
        want = explicit(q, k, v, scaling, used)
        assert torch.allclose(got, want, atol=1e-12)
    small = tuple(x.detach()[:, :, :, :3].requires_grad_() for x in (q, k, v))
    assert torch.autograd.gradcheck(
        lambda *x: function(layer, *x, padded)[0], small, fast_mode=True
    )


def test_inference_only_scalings_leave_training_alone():
    function = ScaledAttention("direct", LogNClipped(2))
    q = torch.randn(1, 1, 8, 4)
    layer = Layer()
    plain = F.scaled_dot_product_attention(q, q, q).transpose(1, 2)
    assert torch.equal(function(layer.train(), q, q, q, None)[0], plain)
    assert not torch.allclose(function(layer.eval(), q, q, q, None)[0], plain)


@pytest.mark.parametrize("positions", [RoPE(), ReRoPE(window=2), ALiBi()])
def test_positions_and_scaling_in_bfloat16_and_under_autocast(positions):
    torch.manual_seed(0)
    function = ScaledAttention("direct", SHARP, positions)
    q = torch.randn(2, 2, 9, 8)
    exact = function(Layer().eval(), q, q, q, None)[0]
    half = function(Layer().eval(), *[q.bfloat16()] * 3, None)[0]
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["none", "causal", "padding", "float"])
@pytest.mark.parametrize("positions", [None, RoPE(), ALiBi()])
def test_short_rows_in_bfloat16_train_as_the_kernel_does(kind, positions):
    """Training on a CPU takes plain products there; longer rows and evaluation take the kernel."""
    torch.manual_seed(0)
    function = ScaledAttention("short", SHARP, positions)
    layer = Layer(groups=2, causal=kind == "causal")
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool)
    mask[1, :, :, 6:] = False
    mask = mask if kind in ("padding", "float") else None
    if kind == "float":
        mask = torch.randn(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    given = [torch.randn(2, heads, 9, 8) for heads in (4, 2, 2)]
    grad = torch.randn(2, 9, 4, 8)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        x = [part.clone().to(dtype).requires_grad_() for part in given]
        own = mask.to(dtype) if kind == "float" else mask
        out = function(layer, *x, own)[0]
        out.backward(grad.to(dtype))
        found.append([out, *(part.grad for part in x)])
    for exact, half in zip(*found):
        assert half.dtype == torch.bfloat16
        assert (half.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_no_tensor_of_n_by_n_numbers_is_made():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for part in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(part, torch.Tensor):
                    self.size = max(self.size, part.untyped_storage().nbytes())
            return out

    n, d = 1024, 8
    for causal in (False, True):
        for dtype in (torch.float32, torch.bfloat16):
            q = torch.randn(1, 1, n, d, dtype=dtype, requires_grad=True)
            with Largest() as seen:
                out = ScaledAttention("memory", SHARP)(Layer(causal=causal), q, q, q, None)[0]
                out.backward(torch.ones_like(out))
            assert n * d <= seen.size < n * n  # bytes, so an eighth of a square of floats at most
        with Largest() as seen:  # the control: the same by hand
            (q[0, 0] @ q[0, 0].T).softmax(-1).sum()
        assert seen.size >= n * n


@pytest.mark.parametrize("rows", ["equal", "causal", "masked"])
def test_what_was_kept_is_not_used_after_a_setting_or_mode_changed(rows):
    """Multipliers are made once; the scaling is changed in place, and inference comes first."""
    scaling = EntropyInvariant(base=4.0, floor=1.0)
    layer, function = torch.nn.Module(), ScaledAttention("kept", scaling)
    layer.is_causal = rows == "causal"
    x = torch.randn(2, 2, 8, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mask = torch.ones(2, 1, 8, 8).tril().bool() if rows == "masked" else None
    for base in (4.0, 4.0, 64.0):
        scaling.base = base
        n = torch.full((8, 1), 8.0) if rows == "equal" else torch.arange(1.0, 9.0)[:, None]
        keep = torch.ones(8, 8).bool() if rows == "equal" else torch.ones(8, 8).tril().bool()
        logits = (x * (n.log() / torch.tensor(base).log())) @ x.transpose(-1, -2) / 2
        expected = (logits.masked_fill(~keep, -torch.inf).softmax(-1) @ x).transpose(1, 2)
        with torch.inference_mode():
            seen = function(layer, x, x, x, mask)[0]
        trained = function(layer, x, x, x, mask)[0]
        trained.sum().backward()
        assert torch.allclose(seen, expected, atol=1e-5)
        assert torch.allclose(trained, expected, atol=1e-5)
