"""Texts to token strings in bulk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from kexue_pl.retrieval.strings import Strings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 1 << 16
CODE_POINTS = 0x110000


class Encode(Protocol):
    """Anything that turns a list of texts into token strings without special tokens."""

    def __call__(self, texts: list[str]) -> Strings: ...


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """Short hash of a tokenizer's vocabulary, stored in an index to refuse another model's."""
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(vocab).encode()).hexdigest()[:16]


def tokenizer_encode(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """``Encode`` of any fast tokenizer; special tokens written inside a text are read as plain
    text.
    """

    def encode(texts: list[str]) -> Strings:
        ids = tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, split_special_tokens=True
        )
        return Strings.of(ids["input_ids"])

    return encode


def character_encode(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """The same for lower-cased character vocabularies, by one table look-up over all code points.

    Texts with a character the vocabulary lacks go through the tokenizer itself.
    """
    table = np.full(CODE_POINTS, -1, np.int64)
    special = set(tokenizer.all_special_tokens)
    for token, number in tokenizer.get_vocab().items():
        if len(token) == 1 and token not in special:
            table[ord(token)] = number
    slow = tokenizer_encode(tokenizer)

    def encode(texts: list[str]) -> Strings:
        lowered = [t.lower() for t in texts]
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(t) for t in lowered], out=offsets[1:])
        points = np.frombuffer("".join(lowered).encode("utf-32-le", "surrogatepass"), np.uint32)
        flat = table[points]
        unknown = np.unique(np.searchsorted(offsets, np.flatnonzero(flat < 0), side="right") - 1)
        fast = Strings(flat, offsets)
        if len(unknown) == 0:
            return fast
        missing = slow([texts[i] for i in unknown.tolist()])
        both = concatenate([fast, missing])
        order = np.arange(len(texts))
        order[unknown] = len(texts) + np.arange(len(unknown))
        return both.take(order)

    return encode


def encode_chunks(encode: Encode, texts: Iterable[list[str]]) -> Strings:
    """Encode chunk by chunk, so that Python lists of ids never grow large."""
    return concatenate([_narrow(encode(chunk)) for chunk in texts])


def concatenate(parts: list[Strings]) -> Strings:
    """Strings of several parts one after another."""
    if not parts:
        return Strings(np.zeros(0, np.int64), np.zeros(1, np.int64))
    shift = np.cumsum([0, *(int(p.offsets[-1]) for p in parts)])
    offsets = [p.offsets[:-1] + s for p, s in zip(parts, shift, strict=False)]
    flat = np.concatenate([p.flat[: int(p.offsets[-1])] for p in parts])
    return Strings(flat, np.concatenate([*offsets, shift[-1:]]))


def _narrow(strings: Strings) -> Strings:
    if strings.flat.size == 0 or int(strings.flat.max()) < 1 << 16:
        return Strings(strings.flat.astype(np.uint16), strings.offsets)
    return Strings(strings.flat.astype(np.uint32), strings.offsets)
