"""A search space in Hydra's own syntax: `optimizer.lr=interval(1e-4,1e-2)`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from kexue_pl.run.errors import ConfigError

__all__ = ["Space", "parse", "read_space"]


class Space:
    """What is searched, by key.

    `interval(a, b)` is a real number, `tag(log, interval(a, b))` one on a log scale,
    `int(interval(a, b))` a whole one, `range(a, b, step=c)` steps without b, `choice(x, y)` or `x,y`
    one of several. These are the meanings of Hydra's Optuna plugin.

    Args:
        words: overrides that hold a space.

    Raises:
        ConfigError: a word that holds none, or none at all.

    >>> sorted(Space(["optimizer.lr=tag(log,interval(1e-4,1e-2))", "seed=1,2"]).axes)
    ['optimizer.lr', 'seed']
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.axes: dict[str, Override] = {}
        for word in words:
            override = parse(word)
            if not override.is_sweep_override():
                raise ConfigError(
                    [f"{word}: no space; give interval(a,b), range(a,b), choice(x,y) or x,y"]
                )
            self.axes[override.get_key_element()] = override
        if not self.axes:
            raise ConfigError(["nothing to search; give KEY=interval(a,b) or KEY=choice(x,y)"])

    def draw(self, trial: Any) -> list[str]:
        """Words for the command line with the values that a trial suggests."""
        return [f"{key}={_suggest(trial, key, axis)}" for key, axis in self.axes.items()]


def _suggest(trial: Any, key: str, override: Override) -> Any:
    axis = override.value()
    log = "log" in getattr(axis, "tags", ())
    if isinstance(axis, IntervalSweep) and axis.start is not None and axis.end is not None:
        if isinstance(axis.start, int) and isinstance(axis.end, int):
            return trial.suggest_int(key, axis.start, axis.end, log=log)
        return trial.suggest_float(key, axis.start, axis.end, log=log)
    if isinstance(axis, RangeSweep) and axis.start is not None and axis.stop is not None:
        last = axis.start + (math.ceil((axis.stop - axis.start) / axis.step) - 1) * axis.step
        if all(isinstance(bound, int) for bound in (axis.start, axis.stop, axis.step)):
            return trial.suggest_int(key, axis.start, last, step=axis.step)
        return trial.suggest_float(key, axis.start, last, step=axis.step)
    return trial.suggest_categorical(key, list(override.sweep_string_iterator()))


def parse(word: str) -> Override:
    """A word of the command line.

    Raises:
        ConfigError: it is not of the form KEY=VALUE.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError([f"{word}: not of the form key=value"]) from error


def read_space(path: Path) -> list[str]:
    """Words of a YAML file that maps keys to spaces.

    Raises:
        ConfigError: it is not such a file.
    """
    import yaml

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ConfigError(
            [f"{path}: must map keys to spaces, as optimizer.lr: interval(1e-4,1e-2)"]
        )
    return [f"{key}={value}" for key, value in content.items()]
