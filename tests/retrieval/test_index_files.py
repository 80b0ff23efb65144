"""Stored indexes: load(save(x)) = x, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from kexue_pl.retrieval import IndexFileError, PrefixIndex
from tests.retrieval.oracle import SEP, bases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    index = PrefixIndex.build([([5, 2, 8], "甲"), ([6, 2], "乙")], separator=SEP, tokenizer="abc")
    return index.save(tmp_path / "index")


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(bases())
def test_round_trip(tmp_path: Path, items: list[tuple[list[int], int]]) -> None:
    index = PrefixIndex.build(items, separator=SEP)
    loaded = PrefixIndex.load(index.save(tmp_path / "index"), verify=True)
    assert loaded.info == index.info
    for name, array in index.arrays.items():
        assert (
            np.array_equal(array, loaded.arrays[name]) and array.dtype == loaded.arrays[name].dtype
        )


def test_saving_again_replaces_the_folder_and_leaves_nothing_else(folder: Path) -> None:
    PrefixIndex.build([([9], 1)], separator=SEP).save(folder)
    assert PrefixIndex.load(folder).values([9]) == [1]
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_truncated_arrays(folder: Path) -> None:
    data = folder / "arrays.bin"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(IndexFileError, match="truncated"):
        PrefixIndex.load(folder)
    data.unlink()
    with pytest.raises(IndexFileError, match="missing"):
        PrefixIndex.load(folder)


def test_every_flipped_byte_of_an_array_is_found(folder: Path) -> None:
    data, header = folder / "arrays.bin", json.loads((folder / "header.json").read_text())
    raw = bytearray(data.read_bytes())
    for name, entry in header["arrays"].items():
        size = int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
        for at in {entry["start"], entry["start"] + size - 1} if size else ():
            raw[at] ^= 1
            data.write_bytes(raw)
            with pytest.raises(IndexFileError, match=f"array '{name}' does not match its checksum"):
                PrefixIndex.load(folder, verify=True)
            with pytest.raises(IndexFileError, match="checksum"):
                PrefixIndex.load(folder, verify=False)
            raw[at] ^= 1
    data.write_bytes(raw)
    assert PrefixIndex.load(folder, verify=True).values([6]) == ["乙"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=99), "version 99, this program reads 2"),
        (lambda h: h.update(separator=3), "header does not match its checksum"),
        (lambda h: h.update(format="zip"), "not the header"),
    ],
)
def test_altered_headers(folder: Path, change, message: str) -> None:
    path = folder / "header.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))
    with pytest.raises(IndexFileError, match=message):
        PrefixIndex.load(folder)


def test_unreadable_or_missing_header_and_foreign_tokenizer(folder: Path) -> None:
    with pytest.raises(IndexFileError, match="vocabulary abc, the model uses xyz"):
        PrefixIndex.load(folder, tokenizer="xyz")
    (folder / "header.json").write_text("{")
    with pytest.raises(IndexFileError, match="not a readable header"):
        PrefixIndex.load(folder)
    (folder / "header.json").unlink()
    with pytest.raises(IndexFileError, match="no prefix index here"):
        PrefixIndex.load(folder)
