"""Choices equal an enumeration of what training asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_pl.retrieval import PrefixIndex, choices
from kexue_pl.retrieval.choices import Choices
from tests.retrieval.oracle import SEP, bases


def parts_of(key: list[int]) -> list[tuple[int, ...]]:
    """Segments of a key with a separator after each."""
    parts: list[list[int]] = [[]]
    for token in key:
        if token == SEP:
            parts.append([])
        else:
            parts[-1].append(token)
    return [tuple(part) for part in parts[:-1]]


def expected(base: list[list[int]], keys: list[list[int]], key: list[int]) -> list[list[int]]:
    """The children at every token of one key, by looking at every key of the base."""
    asked = [{parts_of(k)[s] for k in keys} for s in range(len(parts_of(key)))]
    kept = [k for k in base if all(p in asked[s] for s, p in enumerate(parts_of(k)))]
    out = []
    for step in range(len(key)):
        following = sorted({k[step] for k in kept if k[:step] == key[:step] and len(k) > step})
        out.append(following if len(following) > 1 else [])
    return out


@settings(max_examples=80, deadline=None)
@given(bases(), st.data())
def test_choices_equal_an_enumeration(items: list[tuple[list[int], int]], data: Any) -> None:
    index = PrefixIndex.build(items, separator=SEP)
    base = [[*key, SEP] for key, _ in items]
    keys = data.draw(st.lists(st.sampled_from(base), min_size=1, max_size=6))
    out = Choices(index, keys).batch(range(len(keys)), keys)
    assert out.shape[:2] == (len(keys), max(map(len, keys)))
    for row, key in zip(out, keys, strict=True):
        found = [[t for t in place.tolist() if t >= 0] for place in row]
        assert [sorted(f) for f in found[: len(key)]] == expected(base, keys, key)
        assert not any(found[len(key) :])
        for token, place in zip(key, found, strict=False):
            assert not place or token in place


BASE = [[5, 6, SEP, 8, 9, SEP], [5, 6, SEP, 10, SEP], [5, 7, SEP, 8, 9, SEP], [11, SEP, 12, SEP]]
KEYS = [BASE[0], BASE[1], BASE[2]]


def toy() -> Choices:
    return Choices(PrefixIndex.build([(k[:-1], 0) for k in BASE], separator=SEP), KEYS)


def places(found: Any) -> list[list[int]]:
    return [[t for t in place.tolist() if t >= 0] for place in found]


def test_what_training_never_asks_for_is_no_choice() -> None:
    """11 begins a name and 12 a predicate that only the base has."""
    assert places(toy().batch([0], KEYS[:1])[0]) == [[], [6, 7], [], [8, 10], [], []]


def test_another_name_keeps_the_choices_after_it() -> None:
    renamed = [30, 31, 32, SEP, 8, 9, SEP]
    assert places(toy().batch([0], [renamed])[0]) == [[], [], [], [], [8, 10], [], []]


def test_another_token_takes_the_place_of_the_right_one() -> None:
    one, two = toy().batch([0, 1], [[5, 6, SEP, 40, 9, SEP], KEYS[1]])
    assert sorted(places(one)[3]) == [10, 40] and places(two)[3] == [8, 10]


def test_a_segment_of_another_length_has_none() -> None:
    assert places(toy().batch([0], [[5, 6, SEP, 40, 41, 9, SEP]])[0]) == [[], [6, 7]] + [[]] * 5


def test_no_choice_stands_there_twice() -> None:
    """The other token is the one it was to be told from: nothing is left to choose."""
    assert places(toy().batch([0], [[5, 6, SEP, 10, 9, SEP]])[0]) == [[], [6, 7]] + [[]] * 4


def test_a_key_cut_short_keeps_its_first_choices() -> None:
    assert places(toy().batch([0], [KEYS[0][:4]])[0]) == [[], [6, 7], [], [8, 10]]
    assert places(toy().batch([0], [KEYS[0][:2]])[0]) == [[], [6, 7]]
    assert places(toy().batch([0], [[]])[0]) == [[]]  # the question took all the room


def test_an_unknown_key_has_none() -> None:
    index = PrefixIndex.build([(k[:-1], 0) for k in BASE], separator=SEP)
    unknown = [50, SEP, 51, SEP]
    got = Choices(index, [unknown, KEYS[0], KEYS[1]])
    assert places(got.batch([0], [unknown])[0]) == [[]] * 4
    assert places(got.batch([1], [KEYS[0]])[0])[3] == [8, 10]
    assert not Choices(index, [unknown]).batch([0], [unknown]).max() >= 0


def test_wide_places_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    base = [[token, SEP, 5 + token % 2, SEP] for token in range(10, 20)]
    base += [[10, SEP, 6 - 10 % 2, SEP]]
    index = PrefixIndex.build([(k[:-1], 0) for k in base], separator=SEP)
    assert len(places(Choices(index, base).batch([0], base[:1])[0])[0]) == 10
    monkeypatch.setattr(choices, "WIDEST", 5)
    monkeypatch.setattr(choices, "BLOCK", 3)  # and several blocks
    got = Choices(index, base).batch(np.arange(len(base)), base)
    assert places(got[0]) == [[], [], [5, 6], []] and places(got[3]) == [[]] * 4
