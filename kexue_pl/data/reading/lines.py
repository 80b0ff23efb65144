"""Bytes to lines of text: the checks that no reader of a library makes."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from kexue_pl.data.reading.errors import DataError, RowPolicy

__all__ = ["Line", "near_names", "read_bytes", "read_lines"]


@dataclass(frozen=True)
class Line:
    """A line of text without its end, and its 1-based number in the file."""

    number: int
    text: str


def near_names(path: Path) -> list[str]:
    """Names in the folder of ``path`` that resemble its name, the nearest first."""
    from difflib import get_close_matches

    if not path.parent.is_dir():
        return []
    names = sorted(entry.name for entry in path.parent.iterdir())
    return get_close_matches(path.name, names, n=3, cutoff=0.5)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file without a UTF-8 byte order mark.

    Raises:
        DataError: no such file, a directory, an empty file, or a file in UTF-16.
    """
    if path.is_dir():
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:3]) or "nothing"
        do = f"give one file of it, for instance one of: {names}"
        raise DataError(path, "is a directory, expected a file", do=do)
    if not path.is_file():
        near = ", ".join(near_names(path))
        do = f"near names there: {near}" if near else "check the path"
        raise DataError(path, "no such file", do=do)
    data = path.read_bytes()
    if not data:
        raise DataError(path, "no rows, the file is empty", do="give a file with data")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        do = "convert it: iconv -f UTF-16 -t UTF-8"
        raise DataError(path, "is UTF-16, expected UTF-8", line=1, saw=data[:8], do=do)
    return data.removeprefix(codecs.BOM_UTF8)


def read_lines(path: Path, policy: RowPolicy, *, keep_blank: bool = False) -> list[Line]:
    """Lines that hold text; LF and CRLF end a line, blank lines are left out (or kept).

    Only LF splits: ``str.splitlines`` would also break at U+2028, U+0085 and others.

    Raises:
        DataError: as :func:`read_bytes`; bytes that are not UTF-8, a NUL, a CR inside a line, a
            line that is too long; no line at all.
    """
    data = read_bytes(path)
    lines: list[Line] = []
    start, found = 0, False
    for number, raw in enumerate(data.split(b"\n"), 1):
        offset, start = start, start + len(raw) + 1
        raw = raw.removesuffix(b"\r")
        if raw.strip():
            found = True
        elif not keep_blank:
            continue
        try:
            lines.append(Line(number, _decode(path, number, offset, raw, data, policy)))
        except DataError as error:
            policy.fault(error)
    if not found:
        raise DataError(path, "no rows, only blank lines", do="give a file with data")
    return lines


def _decode(
    path: Path, number: int, offset: int, raw: bytes, data: bytes, policy: RowPolicy
) -> str:
    if len(raw) > policy.max_line_bytes:
        what = f"a line of {len(raw)} bytes, longer than data.max_line_bytes"
        do = "check the line ends, or raise data.max_line_bytes"
        raise DataError(path, what, line=number, saw=raw[:20], do=do)
    if b"\r" in raw:
        do = "end lines with LF or CRLF (tr '\\r' '\\n')"
        raise DataError(path, "a lone carriage return in a line", line=number, saw=raw[:60], do=do)
    if b"\0" in raw:
        do = "is this a text file in UTF-8? remove the NUL"
        raise DataError(path, "a NUL byte", line=number, saw=raw[:60], do=do)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start
        saw = raw[error.start : error.start + 8]
        if error.end == len(raw) and "unexpected end" in error.reason:
            do = "the file was cut inside a character; copy it again"
        else:
            do = f"it looks like {_guess(data)}; convert it to UTF-8 with iconv"
        what = f"not UTF-8 at byte {at} of the file"
        raise DataError(path, what, line=number, saw=saw, do=do) from None


def _guess(data: bytes) -> str:
    """The first encoding of a short list that the sample decodes in."""
    # A cut at 1 MiB may fall inside a character, hence the incremental decoder.
    for encoding in ("gb18030", "big5", "shift_jis"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(data[: 2**20])
        except UnicodeDecodeError:
            continue
        return {"gb18030": "GBK"}.get(encoding, encoding.upper())
    return "Latin-1 or binary"
