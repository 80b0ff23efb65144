from __future__ import annotations

import math

from kexue_pl.data.components import leak, length_correlation, split_components


def test_no_sentence_on_both_sides() -> None:
    pairs = [(f"s{i % 97}", f"t{i * 7 % 101}") for i in range(60)]
    pairs += [(f"u{i}", f"v{i}") for i in range(140)]
    train, held = split_components(pairs, 0.2, 0)
    texts = [{t for row in part for t in pairs[row]} for part in (train, held)]
    assert not texts[0] & texts[1]
    assert sorted(train + held) == list(range(200)) and 30 <= len(held) <= 40


def test_giant_components_stay_in_training() -> None:
    pairs = [("hub", f"x{i}") for i in range(50)] + [(f"u{i}", f"v{i}") for i in range(150)]
    train, held = split_components(pairs, 0.3, 1)
    assert set(range(50)) <= set(train) and len(held) == 60


def test_leak_compares_without_order() -> None:
    found = leak([("a", "b"), ("c", "d")], [("b", "a"), ("a", "d"), ("a", "x"), ("y", "z")])
    assert (found.pairs, found.both, found.any, found.train_rows) == (1, 2, 3, (0,))


def test_length_correlation() -> None:
    pairs = [("a" * n, "b") for n in range(1, 6)]
    assert math.isclose(length_correlation(pairs, [1, 2, 3, 4, 5]), 1.0)
    assert math.isclose(length_correlation(pairs, [5, 4, 3, 2, 1]), -1.0)
    assert math.isnan(length_correlation(pairs, [1] * 5))
