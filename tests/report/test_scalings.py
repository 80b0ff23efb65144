"""Comparison of scalings on one checkpoint."""

from __future__ import annotations

import pytest
import torch

from kexue_pl.attention import EntropyInvariant, Positions, RoPE, Standard
from kexue_pl.report.scalings import Variant, compare, markdown, variants
from tests.support.recall import tiny_recall

CONFIG = {
    "data": {"train_length": 16},
    "model": {"window": None, "rope_base": 100.0},
}


def test_variants_take_lengths_from_the_data_and_settings_from_the_name():
    made = variants(CONFIG, ["standard", "entropy_invariant:strength=0.5"], ["rope", "rerope"])
    assert [v.name for v in made] == [
        "standard rope", "entropy_invariant:strength=0.5 rope",
        "standard rerope", "entropy_invariant:strength=0.5 rerope",
    ]  # fmt: skip
    assert (made[1].scaling.base, made[1].scaling.strength) == (16, 0.5)
    assert (made[2].positions.window, made[2].positions.base) == (12, 100.0)
    with pytest.raises(ValueError, match="ssmax: learns values"):
        variants(CONFIG, ["ssmax"], [])
    with pytest.raises(ValueError, match="expected one of"):
        variants(CONFIG, ["entropy"], [])


def test_compare_pairs_predictions():
    data, task = tiny_recall()
    task.eval()
    tried = [
        Variant("standard", Standard(), None),
        Variant("again", Standard(), Positions()),
        Variant("base 16", EntropyInvariant(base=16), None),
        Variant("rope", Standard(), RoPE()),
    ]
    rows = compare(task, data, tried)
    found = {(row["variant"], row["length"]): row for row in rows}
    assert len(rows) == 12
    for n in (16, 32, 64):
        assert found["again", n]["wins"] == found["again", n]["losses"] == 0
        for name in ("base 16", "rope"):
            row, first = found[name, n], found["standard", n]
            assert row["difference"] == pytest.approx(row["accuracy"] - first["accuracy"])
        assert found["rope", n]["entropy"] != found["standard", n]["entropy"]
    assert found["base 16", 16]["wins"] == found["base 16", 16]["losses"] == 0
    assert found["base 16", 64]["entropy"] < found["standard", 64]["entropy"]
    table = markdown(rows).splitlines()
    assert len(table) == 6
    assert table[0] == "| variant | 16 | 32 | 64 |"


def test_the_task_is_left_with_the_last_variant_and_its_weights():
    data, task = tiny_recall()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    compare(task.eval(), data, [Variant("standard", Standard(), None)])
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())
