from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kexue_pl.attention import EntropyInvariant
from kexue_pl.models import PairModel, Pretrained, Small, Static
from kexue_pl.models.tokenizers import train_tokenizer

TEXTS = ["氢的原子序数是多少", "请问氧的原子序数", "法国的首都是巴黎"]


def batch_of(tokenizer: Any, left: list[str], right: list[str], **options: Any) -> dict[str, Any]:
    out = {}
    for side, texts in (("left", left), ("right", right)):
        found = tokenizer(texts, padding=True, return_tensors="pt", **options)
        out |= {f"{side}_ids": found.input_ids, f"{side}_mask": found.attention_mask}
    joined = tokenizer(left, right, padding=True, return_tensors="pt", return_token_type_ids=True)
    return out | dict(joined)


def specs() -> list[Any]:
    small = {"hidden_size": 16, "layers": 1, "heads": 2, "dropout": 0.0}
    return [
        *(Static(hidden_size=16, interaction=how) for how in ("bi", "late", "cross")),
        Static(hidden_size=16, bigrams=64),
        *(Small(**small, interaction=how) for how in ("bi", "late", "cross")),
        Small(**small, pooling="first_last_mean"),
    ]


def score(model: PairModel, batch: dict[str, Any]) -> torch.Tensor:
    if model.interaction == "cross":
        return model.logits(batch)[:, 0]
    if model.interaction == "late":
        return model.similarities(batch)
    return torch.cosine_similarity(*model.embeddings(batch))


@pytest.mark.parametrize("number", range(8))
def test_a_pair_scores_the_same_alone_and_beside_a_longer_one(number: int) -> None:
    torch.manual_seed(0)
    spec = specs()[number]
    tokenizer = train_tokenizer(TEXTS, min_frequency=1)
    model = PairModel.from_spec(spec, tokenizer).eval()
    options = {"add_special_tokens": model.encoder.special_tokens}
    alone = score(model, batch_of(tokenizer, ["氢"], ["氧是"], **options))
    beside = score(model, batch_of(tokenizer, ["氢", TEXTS[0]], ["氧是", TEXTS[1]], **options))
    torch.testing.assert_close(alone[0], beside[0], atol=1e-5, rtol=1e-5)
    assert alone.shape == (1,) and beside.shape == (2,)


def test_token_weights_begin_at_one_and_vanish_on_padding() -> None:
    encoder = Static(hidden_size=4).build(train_tokenizer(TEXTS))
    weights = encoder.token_weights(torch.tensor([[7, 8, 0]]), torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(weights, torch.tensor([[1.0, 1.0, 0.0]]))


def test_an_attention_scaling_reaches_the_small_model() -> None:
    tokenizer = train_tokenizer(TEXTS)
    torch.manual_seed(0)
    plain = Small(hidden_size=16, layers=1, heads=2, dropout=0.0).build(tokenizer).eval()
    torch.manual_seed(0)
    scaled = Small(hidden_size=16, layers=1, heads=2, dropout=0.0)
    scaled = scaled.build(tokenizer, attention=EntropyInvariant()).eval()
    ids, mask = torch.arange(5, 9)[None], torch.ones(1, 4, dtype=torch.long)
    assert not torch.allclose(plain(ids, mask), scaled(ids, mask), atol=1e-7)


def test_static_refuses_attention_and_odd_pooling() -> None:
    with pytest.raises(ValueError, match=r"model=static has no attention; use model=small"):
        Static().build(train_tokenizer(TEXTS), attention=EntropyInvariant())
    with pytest.raises(ValueError, match=r"model.pooling='cls': a static model takes mean or max"):
        Static(pooling="cls")
    with pytest.raises(ValueError, match=r"choose a multiple of model.heads"):
        Small(hidden_size=10, heads=4)


def test_pretrained_from_a_folder(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, min_frequency=1)
    small = Small(hidden_size=16, layers=1, heads=2, max_length=24).build(tokenizer).eval()
    small.body.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = Pretrained(path=str(tmp_path), pooling="cls", dropout=0.0)
    loaded = spec.build(spec.load_tokenizer())
    assert all(module.training for module in loaded.modules())
    loaded.eval()
    ids, mask = torch.arange(5, 9)[None], torch.ones(1, 4, dtype=torch.long)
    torch.testing.assert_close(loaded(ids, mask), small(ids, mask))
    assert loaded.max_length == 24
    assert not any(p.requires_grad for p in loaded.body.pooler.parameters())


def test_pretrained_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.path=.*give a folder with config.json"):
        Pretrained(path=str(tmp_path)).load_tokenizer()
