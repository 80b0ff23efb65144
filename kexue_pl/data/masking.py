"""Choosing and hiding tokens for masked language modelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORED", "MaskRule", "WordEdges", "choose", "hide"]

Ints = NDArray[np.int64]

IGNORED = -100
"""Label of tokens that are not to be predicted."""


@dataclass(frozen=True)
class WordEdges:
    """For each token of a vocabulary: whether letters stand at its begin and at its end.

    A token continues a word if it begins with a letter and the token before it ends with one.
    Chinese characters are words of their own.
    """

    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]

    @classmethod
    def of(cls, tokenizer: Any) -> WordEdges:
        """Edges of a fast tokenizer; ``##`` counts as a letter, byte-level blanks do not."""
        names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        special = set(tokenizer.all_special_tokens)
        begins = [name.startswith("##") or _letter(name[:1]) for name in names]
        ends = [_letter(name[-1:]) for name in names]
        plain = np.array([name not in special for name in names])
        return cls(np.array(begins) & plain, np.array(ends) & plain)

    def starts(self, ids: Ints) -> NDArray[np.bool_]:
        """Whether each token of a row (n,) begins a word."""
        inside = self.begins[ids[1:]] & self.ends[ids[:-1]]
        return np.concatenate([[True], ~inside])


def _letter(character: str) -> bool:
    # Ġ and Ċ are how byte-level vocabularies write a blank and a line end.
    if character in ("Ġ", "Ċ", "ĉ") or "\u2e80" <= character <= "\u9fff":
        return False
    return character == "_" or character.isalnum()


@dataclass(frozen=True)
class MaskRule:
    """How much is hidden, and behind what.

    Args:
        rate: share of a row's tokens to predict, above 0 and below 1.
        mask_id: id of the mask token.
        vocab_size: random replacements are drawn from ``first`` to ``vocab_size`` - 1.
        first: smallest id that is an ordinary token.
        masked: share of the chosen tokens shown as the mask token.
        random: share shown as a random token; the rest are shown as they are.
        edges: choose whole words; None chooses tokens.
    """

    rate: float
    mask_id: int
    vocab_size: int
    first: int = 0
    masked: float = 0.8
    random: float = 0.1
    edges: WordEdges | None = None


def choose(ids: Ints, rule: MaskRule, generator: np.random.Generator) -> Ints:
    """Positions to predict in a row (n,), sorted: ``round(rate n)`` tokens, at least one.

    With whole words, words are taken in random order until there are that many tokens, so the last
    word may exceed the share. Special tokens (ids below ``rule.first``) are never chosen.

    >>> rule = MaskRule(rate=0.5, mask_id=0, vocab_size=9, first=1)
    >>> len(choose(np.array([1, 2, 3, 4]), rule, np.random.default_rng(0)))
    2
    """
    ordinary = np.flatnonzero(ids >= rule.first)
    wanted = min(len(ordinary), max(1, round(rule.rate * len(ids))))
    if rule.edges is None:
        return np.sort(generator.permutation(ordinary)[:wanted])
    words = np.cumsum(rule.edges.starts(ids)) - 1
    order = generator.permutation(words.max() + 1)
    rank = order[words[ordinary]]
    by_word = ordinary[np.argsort(rank, kind="stable")]
    taken = np.sort(rank)
    last = taken[wanted - 1] if wanted else -1
    return np.sort(by_word[: int(np.searchsorted(taken, last, side="right"))])


def hide(
    ids: Ints, chosen: Ints, rule: MaskRule, generator: np.random.Generator | None
) -> tuple[Ints, Ints]:
    """Inputs and labels (n,) of a row with the chosen positions hidden.

    Args:
        ids: tokens (n,).
        chosen: positions to predict.
        rule: behind what; without a generator every chosen token becomes the mask token.
        generator: draws the replacements of training; None for evaluation.

    >>> rule = MaskRule(rate=0.5, mask_id=0, vocab_size=9, first=1)
    >>> inputs, labels = hide(np.array([5, 6, 7]), np.array([1]), rule, None)
    >>> inputs.tolist(), labels.tolist()
    ([5, 0, 7], [-100, 6, -100])
    """
    labels = np.full_like(ids, IGNORED)
    labels[chosen] = ids[chosen]
    inputs = ids.copy()
    if generator is None:
        inputs[chosen] = rule.mask_id
        return inputs, labels
    draw = generator.random(len(chosen))
    inputs[chosen[draw < rule.masked]] = rule.mask_id
    swapped = chosen[(draw >= rule.masked) & (draw < rule.masked + rule.random)]
    inputs[swapped] = generator.integers(rule.first, rule.vocab_size, len(swapped))
    return inputs, labels
