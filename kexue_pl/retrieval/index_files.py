"""The folder a prefix index is stored in: one file of arrays, one header that vouches for it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_pl.retrieval.prefix_index import IndexInfo, PrefixIndex

VERSION = 2
MAGIC = "kexue_pl prefix index"
ALIGN = 64
SAMPLE = 1 << 16
VERIFY_BYTES = 16 << 20  # smaller files are checked whole on every load: it costs milliseconds
REBUILD = "build it again (scripts/build_index.py)"


class IndexFileError(ValueError):
    """The stored index is damaged, of another version, or made for another tokenizer."""


def save_index(index: PrefixIndex, folder: str | Path) -> Path:
    """Write ``arrays.bin`` and ``header.json``; a reader never sees a half-written folder.

    The header states version, separator, vocabulary fingerprint and, for each array, dtype, shape,
    position and CRC-32 of its bytes, and a CRC-32 of its own text.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(index, work)
        work.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            os.replace(folder, old / "old")
            os.replace(work, folder)
            shutil.rmtree(old)
        else:
            os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def load_index(
    folder: str | Path, *, verify: bool | None = None, tokenizer: str = ""
) -> PrefixIndex:
    """Map a stored index; pages are read on use and shared by all processes of the machine.

    Args:
        folder: what ``save_index`` wrote.
        verify: True checks every byte, False only the header, sizes and samples of each array;
            None checks every byte of files up to 16 MB.
        tokenizer: fingerprint of the vocabulary in use; refused if the index was built with
            another.

    Raises:
        IndexFileError: missing, truncated or altered files, an unknown version, another tokenizer.
    """
    folder = Path(folder)
    header = _header(folder)
    info = IndexInfo(header["separator"], header["tokenizer"], header["merged"])
    if tokenizer and info.tokenizer and tokenizer != info.tokenizer:
        raise IndexFileError(
            f"{folder}: the index was built with vocabulary {info.tokenizer}, "
            f"the model uses {tokenizer}; "
            f"{REBUILD} with the model's tokenizer"
        )
    data = folder / "arrays.bin"
    size = data.stat().st_size if data.is_file() else -1
    if size != header["bytes"]:
        raise IndexFileError(
            f"{data}: {max(size, 0)} bytes, the header says {header['bytes']}; "
            f"the file is {'missing' if size < 0 else 'truncated or overwritten'}, {REBUILD}"
        )
    whole = np.memmap(data, np.uint8, mode="r") if size else np.zeros(0, np.uint8)
    full = verify if verify is not None else size <= VERIFY_BYTES
    arrays = {
        name: _view(whole, name, entry, data, full) for name, entry in header["arrays"].items()
    }
    return PrefixIndex(arrays, info)


def _write(index: PrefixIndex, folder: Path) -> None:
    entries: dict[str, Any] = {}
    with (folder / "arrays.bin").open("wb") as out:
        for name, array in index.arrays.items():
            array = np.ascontiguousarray(array)
            out.write(b"\0" * (-out.tell() % ALIGN))
            raw = array.reshape(-1).view(np.uint8)
            entries[name] = {
                "dtype": array.dtype.newbyteorder("<").str,
                "shape": list(array.shape),
                "start": out.tell(),
                "crc32": _checksum(raw),
                "sample": _sample(raw),
            }
            out.write(raw.data)
        total = out.tell()
        out.flush()
        os.fsync(out.fileno())
    header = {
        "format": MAGIC,
        "version": VERSION,
        "separator": index.info.separator,
        "tokenizer": index.info.tokenizer,
        "merged": index.info.merged,
        "segments": index.segments,
        "rows": index.rows,
        "bytes": total,
        "arrays": entries,
    }
    header["crc32"] = _own_checksum(header)
    (folder / "header.json").write_text(json.dumps(header, indent=1), encoding="utf-8")


def _own_checksum(header: dict[str, Any]) -> int:
    body = {k: v for k, v in header.items() if k != "crc32"}
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _checksum(raw: NDArray[np.uint8]) -> int:
    return zlib.crc32(raw.data)


def _sample(raw: NDArray[np.uint8]) -> int:
    return zlib.crc32(raw[-SAMPLE:].data, zlib.crc32(raw[:SAMPLE].data))


def _header(folder: Path) -> dict[str, Any]:
    path = folder / "header.json"
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IndexFileError(
            f"{folder}: no prefix index here (header.json missing); {REBUILD}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise IndexFileError(f"{path}: not a readable header ({reason}); {REBUILD}") from None
    if not isinstance(header, dict) or header.get("format") != MAGIC:
        raise IndexFileError(f"{path}: not the header of a {MAGIC}; {REBUILD}")
    if header.get("version") != VERSION:
        raise IndexFileError(
            f"{path}: version {header.get('version')!r}, this program reads {VERSION}; {REBUILD}"
        )
    if header.get("crc32") != _own_checksum(header):
        raise IndexFileError(f"{path}: the header does not match its checksum; {REBUILD}")
    return header


def _view(
    whole: NDArray[np.uint8], name: str, entry: dict[str, Any], path: Path, full: bool
) -> NDArray[Any]:
    dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
    size = int(np.prod(shape)) * dtype.itemsize
    # A plain view of the map: ndarray methods are faster on it than on the memmap subclass.
    raw = np.asarray(whole)[entry["start"] : entry["start"] + size]
    found = _checksum(raw) if full else _sample(raw)
    if found != entry["crc32" if full else "sample"]:
        raise IndexFileError(f"{path}: array {name!r} does not match its checksum; {REBUILD}")
    return np.asarray(raw.view(dtype).reshape(shape))
