"""Spaces mean what Hydra's Optuna plugin lets them mean, and mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kexue_pl.run.errors import ConfigError
from kexue_pl.tune.space import Space, parse, read_space


class Trial:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[Any, ...]] = {}

    def suggest_float(self, key: str, low: float, high: float, **extra: Any) -> float:
        self.asked[key] = ("float", low, high, extra)
        return low

    def suggest_int(self, key: str, low: int, high: int, **extra: Any) -> int:
        self.asked[key] = ("int", low, high, extra)
        return low

    def suggest_categorical(self, key: str, values: list[str]) -> str:
        self.asked[key] = ("choice", *values)
        return values[-1]


@pytest.mark.parametrize(
    ("word", "asked", "drawn"),
    [
        ("x=interval(1e-4,1e-2)", ("float", 1e-4, 1e-2, {"log": False}), "x=0.0001"),
        ("x=interval(0,1)", ("float", 0.0, 1.0, {"log": False}), "x=0.0"),
        ("x=tag(log,interval(1e-4,1))", ("float", 1e-4, 1.0, {"log": True}), "x=0.0001"),
        ("x=int(interval(2,9))", ("int", 2, 9, {"log": False}), "x=2"),
        ("x=range(1,10,step=3)", ("int", 1, 7, {"step": 3}), "x=1"),
        ("x=range(1,11,step=3)", ("int", 1, 10, {"step": 3}), "x=1"),
        ("x=range(0,1,step=0.25)", ("float", 0, 0.75, {"step": 0.25}), "x=0"),
        ("balancer=equal,gradnorm", ("choice", "equal", "gradnorm"), "balancer=gradnorm"),
        ("x=choice(1,true,'a b')", ("choice", "1", "True", "a\\ b"), "x=a\\ b"),
        ("x=[64,32],[8]", ("choice", "[64,32]", "[8]"), "x=[8]"),
    ],
)
def test_a_space_asks_for_what_it_says(word: str, asked: tuple[Any, ...], drawn: str) -> None:
    trial = Trial()
    assert Space([word]).draw(trial) == [drawn]
    assert list(trial.asked.values()) == [asked]


@pytest.mark.parametrize(
    ("word", "value"),
    [("x=choice(1,true)", True), ("x=choice(1,'a b')", "a b"),
     ("x=1,null", None), ("x=choice({a:1},{a:2})", {"a": 2}), ("x=1,-2.5", -2.5)],
)  # fmt: skip
def test_a_drawn_word_means_what_was_listed(word: str, value: object) -> None:
    (drawn,) = Space([word]).draw(Trial())
    assert parse(drawn).value() == value and type(parse(drawn).value()) is type(value)


@pytest.mark.parametrize("word", ["optimizer.lr=1e-3", "no equal sign"])
def test_a_word_without_a_space_is_an_error(word: str) -> None:
    with pytest.raises(ConfigError, match=word.split("=")[0]):
        Space([word])


def test_an_empty_space_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nothing to search"):
        Space([])


def test_a_file_of_spaces(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("optimizer.lr: interval(1e-4,1e-2)\nmodel.hidden_size: 64,128\n")
    assert read_space(path) == ["optimizer.lr=interval(1e-4,1e-2)", "model.hidden_size=64,128"]
    path.write_text("- optimizer.lr\n")
    with pytest.raises(ConfigError, match="must map keys"):
        read_space(path)
