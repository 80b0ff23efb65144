"""Every option of conf/loss builds, states all settings, and keeps the three names equal."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kexue_pl.losses import Loss

CONF = Path(__file__).parents[2] / "conf" / "loss"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "none")


@pytest.mark.parametrize("name", NAMES)
def test_option_builds_with_all_its_settings(name):
    text = (CONF / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    config = OmegaConf.create(text)
    loss = instantiate(config)
    assert isinstance(loss, Loss)
    cls = type(loss)
    assert cls.__module__ == f"kexue_pl.losses.{name}"
    assert cls.__name__.lower() == name.replace("_", "")
    assert set(config) - {"_target_"} == set(inspect.signature(cls).parameters)


def test_every_loss_has_an_option():
    files = {
        path.stem
        for path in Path(inspect.getfile(Loss)).parent.glob("*.py")
        if any(f"({base})" in path.read_text(encoding="utf-8") for base in ("Loss", "CoSENT"))
    }
    assert files - {"base"} <= set(NAMES)
