from __future__ import annotations

from typing import Any

import pytest
import torch

from kexue_pl.losses import CoSENT, PairOutputs
from kexue_pl.models import PairModel, Small, Static
from kexue_pl.models.by_length import encode_by_length
from kexue_pl.models.tokenizers import train_tokenizer

TEXTS = ["氢的原子序数是多少", "请问氧的原子序数", "法国的首都是巴黎", "铁", "水星 水"]


def batch_of(rows: int) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    batch: dict[str, torch.Tensor] = {}
    for side, most in (("left", 9), ("right", 6)):
        lengths = torch.randint(1, most + 1, (rows,), generator=g)
        lengths[0] = most
        mask = (torch.arange(most) < lengths[:, None]).long()
        ids = torch.randint(261, 270, (rows, most), generator=g)
        batch |= {f"{side}_ids": ids * mask, f"{side}_mask": mask}
    return batch


def small(**options: Any) -> PairModel:
    torch.manual_seed(0)
    spec = Small(hidden_size=16, layers=2, heads=2, dropout=0.0, **options)
    return PairModel.from_spec(spec, train_tokenizer(TEXTS, min_frequency=1))


@pytest.mark.parametrize("group", [1, 7, 32])
def test_states_are_those_of_the_whole_batch(group: int) -> None:
    model, batch = small(), batch_of(40)
    ids, mask = batch["left_ids"], batch["left_mask"]
    found = encode_by_length(model.encoder, ids, mask, group=group)
    wanted = model.encoder(ids, mask) * mask[..., None]
    torch.testing.assert_close(found * mask[..., None], wanted, atol=2e-6, rtol=1e-5)


def test_fewer_tokens_are_computed() -> None:
    model, batch = small(), batch_of(64)
    seen: list[int] = []
    model.encoder.register_forward_hook(lambda _m, args, _o: seen.append(args[0].numel()))
    encode_by_length(model.encoder, batch["left_ids"], batch["left_mask"], group=8)
    assert sum(seen) < 0.75 * batch["left_ids"].numel() and len(seen) == 8


@pytest.mark.parametrize("how", ["bi", "late", "cross"])
@pytest.mark.parametrize("kind", ["small", "static"])
def test_short_cuts_change_neither_loss_nor_gradients(kind: str, how: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"interaction": how}
    if kind == "small":
        model = small(**options)
    else:
        spec = Static(hidden_size=8, **options)
        model = PairModel.from_spec(spec, train_tokenizer(TEXTS, min_frequency=1)).eval()
        torch.nn.init.normal_(model.encoder.gain.weight)  # type: ignore[union-attr]
    batch = batch_of(50)
    if model.joined:
        types = torch.zeros_like(batch["left_ids"])
        batch = {"input_ids": batch["left_ids"], "attention_mask": batch["left_mask"]}
        batch["token_type_ids"] = types
    labels = torch.arange(50) % 2

    def gradients(short_cuts: bool) -> list[torch.Tensor]:
        model.short_cuts = short_cuts
        if how == "cross":
            outputs = PairOutputs(logits=model.logits(batch))
        elif how == "late":
            outputs = PairOutputs(scores=model.similarities(batch))
        else:
            left, right = model.embeddings(batch)
            outputs = PairOutputs(left=left, right=right)
        loss = CoSENT(5.0)(outputs, labels)
        used = [p for p in model.parameters() if p.requires_grad]
        got = torch.autograd.grad(loss, used, allow_unused=True)
        return [loss, *(g for g in got if g is not None)]

    for one, two in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4)


def test_dropout_bigrams_and_other_poolings_take_the_long_way() -> None:
    tokenizer = train_tokenizer(TEXTS, min_frequency=1)
    ids, mask = torch.tensor([[261, 262]]), torch.ones(1, 2, dtype=torch.long)
    plain = Static(hidden_size=4).build(tokenizer)
    assert plain.pooled(ids, mask, "mean") is not None and plain.pooled(ids, mask, "max") is None
    assert Static(hidden_size=4, bigrams=8).build(tokenizer).pooled(ids, mask, "mean") is None
    dropped = Static(hidden_size=4, dropout=0.5).build(tokenizer)
    assert dropped.train().pooled(ids, mask, "mean") is None
    assert dropped.eval().pooled(ids, mask, "mean") is not None


def test_a_scaling_by_length_sees_the_same_lengths() -> None:
    from kexue_pl.attention import EntropyInvariant

    torch.manual_seed(0)
    spec = Small(hidden_size=16, layers=2, heads=2, dropout=0.0)
    tokenizer = train_tokenizer(TEXTS, min_frequency=1)
    model = PairModel.from_spec(spec, tokenizer, attention=EntropyInvariant()).eval()
    batch, found = batch_of(50), []
    for short_cuts in (True, False):
        model.short_cuts = short_cuts
        found.append(torch.cosine_similarity(*model.embeddings(batch)))
    torch.testing.assert_close(found[0], found[1], atol=2e-6, rtol=1e-5)
