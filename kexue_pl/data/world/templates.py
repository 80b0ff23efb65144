"""Ways to ask for a predicate, divided into those of training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

_FRAMES: dict[str, tuple[str, ...]] = {
    "train": ("{s}的{n}是什么？", "请问{s}的{n}", "我想知道{s}的{n}", "查一下{s}的{n}是多少"),
    "valid": ("{s}的{n}", "麻烦说说{s}的{n}是啥"),
    "test": ("能告诉我{s}的{n}吗？", "关于{s}，想问一下它的{n}"),
}


@dataclass(frozen=True)
class Templates:
    """The phrasings of one predicate.

    Args:
        nouns: names of the predicate, to be put into a frame.
        train: whole sentences for training, ``{s}`` marks the subject.
        test: whole sentences that only the test asks.
    """

    nouns: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]


@lru_cache(maxsize=1)
def load_templates() -> dict[str, Templates]:
    """Predicate -> its templates.

    >>> load_templates()["首都"].nouns
    ('首都', '国都')
    """
    table: dict[str, Templates] = {}
    text = (files(__package__) / "templates.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        predicate, nouns, train, test = line.split("\t")
        table[predicate] = Templates(
            tuple(nouns.split(",")), tuple(train.split("|")), tuple(test.split("|"))
        )
    return table


def check_split(split: str) -> None:
    """Raise ``ValueError`` unless ``split`` is one of :data:`SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: expected one of {', '.join(SPLITS)}")


def phrasings(predicate: str, split: str) -> list[str]:
    """Templates with ``{s}`` for the subject; those of the test never occur in training.

    Validation asks in the sentences of training and in frames of its own, so that choosing a
    model by it does not see the wording of the test.

    >>> phrasings("首都", "test")[0]
    '哪座城市是{s}的首都'
    >>> set(phrasings("首都", "test")) & set(phrasings("首都", "train"))
    set()
    """
    check_split(split)
    templates = load_templates()[predicate]
    sentences = list(templates.test if split == "test" else templates.train)
    framed = [f.replace("{n}", noun) for f in _FRAMES[split] for noun in templates.nouns]
    return sentences + framed
