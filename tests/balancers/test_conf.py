"""Every file of conf/balancer makes its rule, and every rule has a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kexue_pl.balancers import Balancer

FOLDER = Path(__file__).parents[2] / "conf" / "balancer"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_file_names_its_class_and_all_its_settings(path: Path) -> None:
    config = OmegaConf.load(path)
    rule = instantiate(config)
    assert isinstance(rule, Balancer)
    assert type(rule).__name__.lower() == path.stem.replace("_", "")
    assert type(rule).__module__ == f"kexue_pl.balancers.{path.stem}"
    named = type(rule).__init__.__code__.co_varnames[
        1 : type(rule).__init__.__code__.co_argcount
        + type(rule).__init__.__code__.co_kwonlyargcount
    ]
    assert set(config) - {"_target_"} == set(named)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_every_rule_has_a_file() -> None:
    rules = {c.__module__.rsplit(".", 1)[1] for c in Balancer.__subclasses__()} | {"geometric"}
    here = {name for name in rules if not name.startswith("test_")}
    assert here == {p.stem for p in FILES}
