"""Long runs of token ids on disk, made once and read through a memory map."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.documents import Documents, cached

__all__ = ["pack", "tokenizer_key"]


def tokenizer_key(tokenizer: Any) -> str:
    """SHA-256 of a fast tokenizer's vocabulary and rules."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def pack(
    documents: Documents, tokenizer: Any, *, max_tokens: int | None = None
) -> NDArray[np.int32]:
    """Tokens of all documents one after the other, without padding or special tokens.

    Documents are encoded 64 at a time and written to disk, so memory stays bounded however long the
    text is; the answer is a read-only memory map (N,).

    Args:
        documents: the texts.
        tokenizer: a fast tokenizer of transformers.
        max_tokens: stop after so many tokens; None takes all.

    Raises:
        ValueError: no tokens at all.
    """
    name = hashlib.sha256(
        f"{documents.key}|{tokenizer_key(tokenizer)}|{max_tokens}".encode()
    ).hexdigest()[:24]

    def make(path: Path) -> None:
        left = max_tokens
        with open(path, "wb") as file:
            for ids in _encoded(documents, tokenizer):
                ids = ids if left is None else ids[:left]
                file.write(ids.tobytes())
                left = None if left is None else left - len(ids)
                if left == 0:
                    break

    path = cached(documents.cache, f"tokens-{name}.i32", make)
    if not path.stat().st_size:
        raise ValueError("data: the texts hold no tokens; give longer texts")
    return np.memmap(path, dtype=np.int32, mode="r")


def _encoded(documents: Iterable[str], tokenizer: Any) -> Iterator[NDArray[np.int32]]:
    texts = iter(documents)
    while part := list(itertools.islice(texts, 64)):
        for encoding in tokenizer.backend_tokenizer.encode_batch(part, add_special_tokens=False):
            yield np.array(encoding.ids, dtype=np.int32)
