"""Reads the command line before Hydra does: all mistakes at once, each with the nearest right word."""

from __future__ import annotations

import re
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kexue_pl.run.check import closed, closed_variables, secret_keys
from kexue_pl.run.config import config_dir, suggest
from kexue_pl.run.errors import ConfigError

__all__ = ["check_overrides", "groups", "options", "quote", "refuse_secrets", "with_help"]


def groups() -> list[str]:
    """Names of the config groups: the folders of `conf`."""
    return sorted(path.name for path in config_dir().iterdir() if path.is_dir())


def options(group: str) -> dict[str, str]:
    """Options of a group with their purpose, which is the first comment of each file."""
    found = {}
    for path in sorted((config_dir() / group).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comments = [
            line[2:] for line in lines[:3] if line.startswith("# ") and "@package" not in line
        ]
        found[path.stem] = comments[0] if comments else ""
    return found


def quote(word: str) -> str:
    """Quote a value that Hydra's grammar would refuse for its letters, as in `data.train=数据.tsv`.

    >>> quote("data.train=数据.tsv")
    "data.train='数据.tsv'"
    >>> quote("optimizer.lr=1e-3,2e-3")
    'optimizer.lr=1e-3,2e-3'
    """
    key, equal, value = word.partition("=")
    if not equal or word.startswith("-") or value.isascii() or value[:1] in "'\"[{":
        return word
    if "," in value:
        return f"{key}=" + ",".join(
            f"'{part}'" if not part.isascii() and part[:1] not in "'\"" else part
            for part in value.split(",")
        )
    escaped = value.replace("'", "\\'")
    return f"{key}='{escaped}'"


def refuse_secrets(arguments: list[str]) -> None:
    """Raise a ConfigError if an override's name looks like a secret, or its value reads one.

    The value is not shown.

    Hydra would write it into the run directory.
    """
    reads = [
        closed(word.partition("=")[0].lstrip("+~"), name)
        for word in arguments
        for name in closed_variables(word)
    ]
    if reads:
        raise ConfigError(reads)
    words = [word.partition("=")[0].lstrip("+~") for word in arguments if not word.startswith("-")]
    if found := secret_keys(words):
        raise ConfigError(
            [
                f"{key}: looks like a secret; give it through the environment (WANDB_API_KEY, HF_TOKEN)"
                for key in found
            ]
        )


def check_overrides(arguments: list[str]) -> None:
    """Raise one ConfigError naming every mistaken override."""
    words = [word for word in arguments if not word.startswith("-")]
    mistakes: list[str] = []
    parsed = []
    for word in words:
        try:
            parsed.append(OverridesParser.create().parse_override(word))
        except HydraException:
            mistakes.append(
                f"{word}: not of the form key=value (quote values with blanks or symbols)"
            )
    chosen = [o for o in parsed if _is_group(o)]
    mistakes += [text for override in chosen for text in _group_mistakes(override)]
    if not mistakes:
        mistakes += _value_mistakes(chosen, [o for o in parsed if not _is_group(o)])
    if "-m" in arguments or "--multirun" in arguments:
        mistakes += [
            "paths.output_dir: one folder cannot hold many jobs; use paths.sweep_dir"
            for override in parsed
            if override.key_or_group == "paths.output_dir"
        ]
    elif sweeps := [o.key_or_group for o in parsed if o.is_sweep_override()]:
        mistakes.append(f"{sweeps[0]}: several values need -m (multirun)")
    if mistakes:
        raise ConfigError(mistakes)


def _is_group(override: Override) -> bool:
    key = override.key_or_group.split("@")[0]
    return "." not in key and (config_dir() / key).is_dir()


def _choices(override: Override) -> list[str]:
    """The options that an override of a group names; a glob names those that it matches."""
    value = override.value()
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        assert isinstance(value, Glob)
        return list(value.filter(list(options(override.key_or_group))))
    if override.is_sweep_override():
        return [str(v).strip("'\"") for v in override.sweep_string_iterator()]
    if isinstance(value, list):
        return [str(v) for v in value]
    return [] if value is None else [str(value)]


def _group_mistakes(override: Override) -> list[str]:
    group, known = override.key_or_group.split("@")[0], options(override.key_or_group.split("@")[0])
    if override.type == OverrideType.DEL:
        return []
    found = []
    for choice in _choices(override):
        names = re.findall(r"[^\[\],\s]+", choice) if choice.startswith("[") else [choice]
        for name in names:
            if name not in known and name not in ("null", "None") and not _deeper(group, name):
                shown = ", ".join(list(known)[:12]) + (", ..." if len(known) > 12 else "")
                found.append(f"{group}={name}: no such option{suggest(name, known)} (has {shown})")
    return found


def _deeper(group: str, name: str) -> bool:
    return (config_dir() / group / f"{name}.yaml").is_file()


def _value_mistakes(chosen: list[Override], values: list[Override]) -> list[str]:
    """Compose the chosen groups, then look up each `key=value` in the result."""
    lines = []
    for override in chosen:
        if override.is_sweep_override():
            first = _choices(override)
            lines += [f"{override.key_or_group}={first[0]}"] if first else []
        else:
            lines.append(str(override.input_line))
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", overrides=lines)
    except (HydraException, OmegaConfBaseException) as error:
        return [str(error).strip().splitlines()[0]]
    finally:
        GlobalHydra.instance().clear()
    return [text for override in values if (text := _value_mistake(config, override))]


def _value_mistake(config: DictConfig, override: Override) -> str | None:
    key = override.key_or_group
    if key.startswith("hydra"):
        return None
    parent, known, missing = _look_up(config, key)
    if override.type == OverrideType.CHANGE and missing:
        if known and not parent and missing == key:
            return f"{key}: unknown{suggest(missing, [*known, *groups()])}"
        return f"{key}: unknown{suggest(missing, known)}"
    if override.type != OverrideType.CHANGE or override.is_sweep_override():
        return None
    try:
        OmegaConf.update(config, key, override.value(), merge=False)
    except OmegaConfBaseException as error:
        return f"{key}={override.value()}: {str(error).strip().splitlines()[0]}"
    except (TypeError, AttributeError, ValueError) as error:
        return f"{key}={override.value()}: {error}"
    return None


def _look_up(config: DictConfig, key: str) -> tuple[str, list[str], str]:
    """Parent path, names known there, and the first part that is not there ("" if all is)."""
    node: Any = config
    seen: list[str] = []
    for part in key.split("."):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        # `in` says no to a key whose value is still missing (???); the list of keys has it.
        elif isinstance(node, DictConfig) and not node._is_none() and part in list(node):
            node = node._get_node(part)
        else:
            known = (
                [str(k) for k in node]
                if isinstance(node, DictConfig) and not node._is_none()
                else []
            )
            return ".".join(seen), [name for name in known if name != "_target_"], part
        seen.append(part)
    return ".".join(seen[:-1]), [], ""


HELP = """kexue_pl: eight articles of the Kexue blog (kexue.fm), each a switch.

  python train.py task=TASK [GROUP=OPTION ...] [KEY=VALUE ...]

Examples
  python train.py task=matching loss=cosent model.interaction=cross
  python train.py task=multitask balancer=gradnorm
  python train.py -m task=mlm attention=standard,entropy_invariant seed=1,2,3
"""


def with_help(arguments: list[str]) -> list[str]:
    """Print the help page and leave for `--help`; other flags are Hydra's."""
    if "--help" in arguments or "-h" in arguments:
        print(HELP)
        for group in groups():
            if group in ("hydra", "paths"):
                continue
            print(f"{group}=")
            for name, purpose in options(group).items():
                print(f"  {name:<24} {purpose}")
        print("\nAll settings with their values: --cfg job. Shell completion: -sc install=bash")
        raise SystemExit(0)
    return arguments
