"""Tokenized pairs: encoded once, kept as flat arrays, padded when a batch is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["EncodedPairs", "Ragged", "encode_joined", "encode_texts", "pad"]

_CHUNK = 4096  # texts handed to the tokenizer at once: bounds memory, keeps it fast


@dataclass(frozen=True)
class Ragged:
    """Lists of integers of different lengths as one flat array.

    Args:
        flat: all values.
        starts: (N + 1,) where each list begins; the last entry is the end.
    """

    flat: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.flat[self.starts[row] : self.starts[row + 1]]

    def lengths(self) -> np.ndarray:
        """(N,) lengths of the lists."""
        return np.diff(self.starts)

    @staticmethod
    def of(lists: Sequence[Sequence[int]], dtype: Any = np.int32) -> Ragged:
        """From lists.

        >>> ragged = Ragged.of([[1, 2], [], [3]])
        >>> ragged.lengths().tolist(), ragged[2].tolist()
        ([2, 0, 1], [3])
        """
        starts = np.concatenate([[0], np.cumsum([len(one) for one in lists], dtype=np.int64)])
        flat = np.fromiter((i for one in lists for i in one), dtype, count=int(starts[-1]))
        return Ragged(flat, starts.astype(np.int64))


def encode_texts(
    tokenizer: Any, texts: Sequence[str], *, special_tokens: bool, max_length: int | None
) -> tuple[Ragged, list[int]]:
    """Token ids of texts, and the numbers of those that were cut to ``max_length`` tokens.

    A text of which nothing is left becomes one unknown token, so that no text is empty.
    """
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else 0
    before, after = _frame(tokenizer) if special_tokens else ([], [])
    extra = len(before) + len(after)
    lists: list[list[int]] = []
    cut: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        for ids in _plain(tokenizer, texts[start : start + _CHUNK]):
            if max_length is not None and len(ids) + extra > max_length:
                cut.append(len(lists))
                ids = ids[: max_length - extra]
            ids = ids or [unknown]
            lists.append([*before, *ids, *after])
    return Ragged.of(lists), cut


def _plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        # Without offsets and without a dict of lists for each text: a third of the time.
        core.no_truncation()
        core.no_padding()
        return [one.ids for one in core.encode_batch_fast(list(texts), add_special_tokens=False)]
    found: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]
    return found


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens before and after a single text, found by encoding one letter."""
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a", add_special_tokens=True)["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(inner)] == inner)
    return whole[:at], whole[at + len(inner) :]


def encode_joined(
    tokenizer: Any, left: Sequence[str], right: Sequence[str], *, max_length: int | None
) -> tuple[Ragged, Ragged, list[int]]:
    """Both texts of each pair as one sequence: ids, token types, and the numbers of those cut.

    Too long a pair loses tokens from the end of its longer text.
    """
    ids: list[list[int]] = []
    types: list[list[int]] = []
    cut: list[int] = []
    for start in range(0, len(left), _CHUNK):
        texts = list(left[start : start + _CHUNK]), list(right[start : start + _CHUNK])
        if max_length is not None:
            whole = tokenizer(*texts, return_length=True, verbose=False)["length"]
            cut += [start + row for row, length in enumerate(whole) if int(length) > max_length]
        out = tokenizer(
            *texts,
            truncation="longest_first" if max_length else False,
            max_length=max_length,
            return_token_type_ids=True,
            verbose=False,
        )
        ids += out["input_ids"]
        types += out.get("token_type_ids") or [[0] * len(one) for one in out["input_ids"]]
    return Ragged.of(ids), Ragged.of(types, np.int8), cut


def pad(lists: Sequence[np.ndarray], value: int) -> tuple[Tensor, Tensor]:
    """(B, L) ids filled up with ``value`` and (B, L) mask, L the longest list.

    >>> ids, mask = pad([np.array([5, 6]), np.array([7])], 0)
    >>> ids.tolist(), mask.tolist()
    ([[5, 6], [7, 0]], [[1, 1], [1, 0]])
    """
    lengths = np.fromiter((len(one) for one in lists), np.int64, count=len(lists))
    mask = np.arange(lengths.max(initial=1)) < lengths[:, None]
    out = np.full(mask.shape, value, dtype=np.int64)
    out[mask] = np.concatenate(lists)
    return torch.from_numpy(out), torch.from_numpy(mask.astype(np.int64))


@dataclass(frozen=True)
class EncodedPairs:
    """Rows of token ids and labels; map-style, each row a dict of arrays and numbers.

    Args:
        parts: name -> ids: ``left`` and ``right``, or ``joined`` and ``types``.
        labels: (N,) float64, None where there are none.
    """

    parts: dict[str, Ragged]
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, row: int) -> dict[str, Any]:
        out: dict[str, Any] = {name: ragged[row] for name, ragged in self.parts.items()}
        if self.labels is not None:
            out["label"] = float(self.labels[row])
        return out

    def lengths(self) -> np.ndarray:
        """(N,) tokens of each row, both texts together."""
        named = [ragged for name, ragged in self.parts.items() if name != "types"]
        total: np.ndarray = np.sum([ragged.lengths() for ragged in named], axis=0)
        return total
