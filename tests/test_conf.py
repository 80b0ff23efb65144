"""Every option of every group has a purpose, is found by its name, composes and passes the checker."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from kexue_pl.run.check import check
from kexue_pl.run.config import config_dir, register
from kexue_pl.run.overrides import groups, options
from kexue_pl.run.signatures import signature

SAME_NAME = {
    "attention": "attention",
    "balancer": "balancers",
    "loss": "losses",
    "penalty": "penalties",
    "task": "tasks",
}
OPTIONS = [(group, name) for group in groups() for name in options(group)]
# What an option needs beside it on a command line.
NEEDS = {
    "data=files": ["data.train=x.tsv", "data.valid=y.tsv"],
    "data=stream": ["data.train=x.tsv", "data.valid=y.tsv"],
    "data=keyed_pairs": ["data.train=x.tsv", "data.valid=y.tsv"],
    "data=text": ["data.train=folder"],
    "model=pretrained": ["model.path=folder"],
    "model=pretrained_mlm": ["model.path=folder"],
}
# The task of an option that no task has as its default.
NEAREST = {
    "balancer": "multitask",
    "data=text": "mlm",
    "data=stdlib": "mlm",
    "data=peoples_daily": "mlm",
    "data=keyed_pairs": "kgclue",
    "data=kgclue": "kgclue",
    "data=toy": "multitask",
    "data=quadratics": "multitask",
    "data=digits": "multitask",
    "data=multitask_world": "multitask",
    "model=pretrained_mlm": "mlm",
}
PARTS = [(group, name) for group, name in OPTIONS if group in SAME_NAME]
CHOICES = [(group, name) for group, name in OPTIONS if group not in ("hydra", "paths")]


def named(pairs: list[tuple[str, str]]) -> list[str]:
    return ["=".join(pair) for pair in pairs]


def settings(group: str, name: str) -> dict:
    return yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=named(OPTIONS))
def test_option_has_a_purpose_and_is_short(group: str, name: str) -> None:
    text = (config_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")
    assert options(group)[name], "the first comment says in one line what the option is for"
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize(("group", "name"), PARTS, ids=named(PARTS))
def test_option_file_and_class_have_one_name(group: str, name: str) -> None:
    node = settings(group, name)
    node = node.get("task", node) if group == "task" else node
    target = node.get("_target_")
    if target is None:
        assert name == "none"
        return
    package, folder, module, cls = target.split(".")
    assert (package, folder, module) == ("kexue_pl", SAME_NAME[group], name)
    assert cls.lower().removesuffix("task") == name.replace("_", "")


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=named(CHOICES))
def test_option_composes_and_is_right(group: str, name: str) -> None:
    register()
    words = [] if group in ("task", "experiment") else [f"task={_task_of(group, name)}"]
    word = f"{group}=[{name}]" if group == "callbacks" else f"{group}={name}"
    if group == "logger":
        assert settings(group, name)
    words += [word, *NEEDS.get(f"{group}={name}", []), "paths.output_dir=nowhere"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=words)
    check(config)


def _task_of(group: str, name: str) -> str:
    """A task with which an option makes sense."""
    for task in options("task"):
        for line in yaml.safe_load((config_dir() / "task" / f"{task}.yaml").read_text())[
            "defaults"
        ]:
            if line.get(f"override /{group}") == name:
                return task
    return NEAREST.get(f"{group}={name}", NEAREST.get(group, "matching"))


def test_every_leaf_argument_is_known() -> None:
    for path in Path(config_dir()).rglob("*.yaml"):
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(node, dict) and isinstance(node.get("_target_"), str):
            takes = signature(node["_target_"], str(path))
            assert takes is not None
            assert not takes.open_ended or not node["_target_"].startswith("kexue_pl"), path
