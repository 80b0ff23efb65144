"""Texts to token strings in bulk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.strings import Strings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHUNK = 1 << 16
CODE_POINTS = 0x110000
UNASKED, SEVERAL = -1, -2
_ENCODERS: WeakKeyDictionary[Any, Encode] = WeakKeyDictionary()


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
    """The same for tokenizers that look at each character by itself, by one table over code points.

    The table is filled by asking the tokenizer about each new character once. Texts with
    characters of no or several tokens (spaces, bytes of unknown ones, combining marks) go through
    the tokenizer.
    """
    table = np.full(CODE_POINTS, UNASKED, np.int64)
    slow = tokenizer_encode(tokenizer)

    def ask(points: NDArray[np.uint32]) -> None:
        import unicodedata

        characters = [chr(p) for p in points.tolist()]
        answers = slow(characters)
        single = answers.lengths == 1
        single &= np.array([not unicodedata.combining(c) for c in characters])
        table[points] = SEVERAL
        table[points[single]] = answers.flat[answers.offsets[:-1][single]]

    def encode(texts: list[str]) -> Strings:
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(t) for t in texts], out=offsets[1:])
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
        new = np.unique(points[table[points] == UNASKED])
        if len(new):
            ask(new)
        flat = table[points]
        several = np.unique(np.searchsorted(offsets, np.flatnonzero(flat < 0), side="right") - 1)
        if len(several) == 0:
            return Strings(flat, offsets)
        both = concatenate([Strings(flat, offsets), slow([texts[i] for i in several.tolist()])])
        order = np.arange(len(texts))
        order[several] = len(texts) + np.arange(len(several))
        return both.take(order)

    return encode


def encoder_of(tokenizer: PreTrainedTokenizerFast) -> Encode:
    """The fastest ``Encode`` that gives what the tokenizer gives; one a tokenizer."""
    known = _ENCODERS.get(tokenizer)
    if known is None:
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        by_character = model.get("type") == "BPE" and not model.get("merges")
        known = (character_encode if by_character else tokenizer_encode)(tokenizer)
        _ENCODERS[tokenizer] = known
    return known


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
