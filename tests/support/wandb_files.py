"""Reads an offline W&B run: a 7-byte header, then records in LevelDB's log framing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32 * 1024


def records(path: Path) -> Iterator[Any]:
    """The protobuf records of a `.wandb` file."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:  # the tail of a block is padding
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def run_of(folder: Path) -> Any:
    """The run record below a run directory."""
    path = next(folder.glob("wandb/offline-run-*/*.wandb"))
    return next(r.run for r in records(path) if r.HasField("run"))
