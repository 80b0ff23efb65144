"""Ranks with other settings are found out, with the key; processes are counted as the settings say."""

from __future__ import annotations

import pytest

from kexue_pl.run.errors import ConfigError
from kexue_pl.run.launch import ConfigMismatchError, check_same_everywhere, processes
from tests.support.ranks import run_ranks


def same(rank: int, world: int) -> str:
    check_same_everywhere({"optimizer": {"lr": 0.1}})
    return "passed"


def different(rank: int, world: int) -> str:
    with pytest.raises(ConfigMismatchError) as error:
        check_same_everywhere({"optimizer": {"lr": [0.0957, 0.0421][rank]}, "seed": 0})
    return str(error.value)


def test_equal_settings_pass() -> None:
    assert run_ranks(same, 2) == ["passed", "passed"]


def test_a_rank_with_other_settings_stops_all_ranks_with_the_key() -> None:
    text = "ranks hold different settings: optimizer.lr: [0.0957, 0.0421]"
    assert run_ranks(different, 2) == [text, text]


@pytest.mark.parametrize(("devices", "count"), [(1, 1), (2, 2), ("2", 2), (-1, 1), ([0, 1], 2)])
def test_processes_on_the_cpu(devices: object, count: int) -> None:
    settings = {"accelerator": "cpu", "devices": devices, "strategy": "ddp"}
    assert processes(settings) == count


@pytest.mark.parametrize("devices", [0, "many", 1.5])
def test_a_wrong_number_of_devices_is_an_error(devices: object) -> None:
    with pytest.raises(ConfigError, match=r"accelerator\.devices"):
        processes({"accelerator": "cpu", "devices": devices, "strategy": "ddp"})
