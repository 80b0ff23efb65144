from __future__ import annotations

import pytest

from kexue_pl.models.tokenizers import KINDS, SPECIALS, train_tokenizer

TEXTS = ["氢的原子序数是多少", "请问氧的原子序数", "Hello World, hello", "法国的首都是巴黎"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_carry_special_tokens_and_types(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=600, min_frequency=1)
    ids = tokenizer("氢", "氧").input_ids
    types = tokenizer("氢", "氧", return_token_type_ids=True).token_type_ids
    assert [ids[0], ids[-1]] == tokenizer.convert_tokens_to_ids(["[CLS]", "[SEP]"])
    assert types[0] == 0 and types[-1] == 1 and len(types) == len(ids)
    assert tokenizer.convert_ids_to_tokens(range(5)) == SPECIALS
    assert len(tokenizer) <= 600


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_unknown_characters_stay_apart(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=600)
    left, right = (tokenizer(text, add_special_tokens=False).input_ids for text in "龘靐")
    assert left != right and tokenizer.unk_token_id not in left + right


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_gives_the_text_back(kind: str) -> None:
    tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=600, min_frequency=1)
    ids = tokenizer("法国的首都").input_ids
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text.replace(" ", "") == "法国的首都"


def test_each_chinese_character_is_a_wordpiece() -> None:
    tokenizer = train_tokenizer(TEXTS, kind="wordpiece", vocab_size=600, min_frequency=1)
    assert tokenizer.tokenize("法国首都hello") == ["法", "国", "首", "都", "hello"]


def test_case_and_width_are_folded() -> None:
    tokenizer = train_tokenizer(TEXTS, vocab_size=600, min_frequency=1)
    assert tokenizer("HELLO ＷＯＲＬＤ").input_ids == tokenizer("hello world").input_ids


def test_same_texts_same_vocabulary() -> None:
    one, two = (train_tokenizer(TEXTS, kind="char", vocab_size=300) for _ in range(2))
    assert one.get_vocab() == two.get_vocab()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"model.tokenizer='word': expected one of char"):
        train_tokenizer(TEXTS, kind="word")
    with pytest.raises(ValueError, match=r"model.vocab_size=10: expected at least 300"):
        train_tokenizer(TEXTS, vocab_size=10)
    with pytest.raises(ValueError, match=r"no training texts"):
        train_tokenizer([])
