"""The fast table gives what the tokenizer gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval.encode import (
    character_encode,
    concatenate,
    encoder_of,
    fingerprint,
    tokenizer_encode,
)
from kexue_pl.retrieval.strings import Strings


def characters() -> Any:
    from kexue_pl.models.tokenizers import train_tokenizer

    return train_tokenizer(["氢气 abc é（）", "A１"], min_frequency=1)


TOKENIZER = characters()
FAST, SLOW = character_encode(TOKENIZER), tokenizer_encode(TOKENIZER)
letters = st.sampled_from("氢气abcABCé（）１未ﬁ \u3000\u0301[]SEP😀")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(letters, max_size=8), max_size=6))
def test_table_equals_tokenizer(texts: list[str]) -> None:
    fast, slow = FAST(texts), SLOW(texts) if texts else Strings.of([])
    assert [fast[i] for i in range(len(texts))] == [slow[i] for i in range(len(texts))]


@pytest.mark.parametrize("encode", [FAST, SLOW])
def test_special_tokens_in_a_text_are_plain_text(encode: Any) -> None:
    assert not set(encode(["a[SEP]b"])[0]) & set(TOKENIZER.all_special_ids)


def test_fingerprint_tells_vocabularies_apart_and_the_encoder_is_kept() -> None:
    from kexue_pl.models.tokenizers import train_tokenizer

    other = train_tokenizer(["乙"], min_frequency=1)
    assert fingerprint(TOKENIZER) == fingerprint(characters()) != fingerprint(other)
    assert encoder_of(TOKENIZER) is encoder_of(TOKENIZER) is not encoder_of(other)


def test_concatenate_keeps_every_string() -> None:
    both = concatenate([Strings.of([[1], []]), Strings.of([]), Strings.of([[2, 3]])])
    assert [both[i] for i in range(3)] == [[1], [], [2, 3]]
    assert len(concatenate([])) == 0
