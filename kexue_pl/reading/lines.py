"""Bytes to lines of text in bounded memory: the checks that no reader of a library makes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexue_pl.reading.errors import DataError, RowPolicy

__all__ = ["Line", "check_file", "decode_line", "iter_lines", "near_names", "read_lines"]

_BLOCK = 2**20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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


def check_file(path: Path) -> None:
    """Refuse what is no file with something in it.

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
    with open(path, "rb") as file:
        head = file.read(8)
    if not head:
        raise DataError(path, "no rows, the file is empty", do="give a file with data")
    if head.startswith(_UTF16):
        do = "convert it: iconv -f UTF-16 -t UTF-8"
        raise DataError(path, "is UTF-16, expected UTF-8", line=1, saw=head, do=do)


def read_lines(path: Path, policy: RowPolicy, *, keep_blank: bool = False) -> list[Line]:
    """All lines of :func:`iter_lines`."""
    return list(iter_lines(path, policy, keep_blank=keep_blank))


def iter_lines(path: Path, policy: RowPolicy, *, keep_blank: bool = False) -> Iterator[Line]:
    """Lines that hold text; LF and CRLF end a line, blank lines are left out (or kept).

    Only LF splits: ``str.splitlines`` would also break at U+2028, U+0085 and others. Memory is
    bounded by ``policy.max_line_bytes``. A UTF-8 byte order mark is left out.

    Raises:
        DataError: as :func:`check_file`; bytes that are not UTF-8, a NUL, a CR inside a line, a
            line that is too long; no line at all.
    """
    check_file(path)
    found = False
    for number, offset, raw, size in _raw_lines(path, policy.max_line_bytes):
        raw = raw.removesuffix(b"\r")
        if raw.strip() or size > policy.max_line_bytes:
            found = True
        elif not keep_blank:
            continue
        try:
            text = decode_line(path, number, raw, size, policy, offset=offset)
        except DataError as error:
            policy.fault(error)
            continue
        yield Line(number, text)
    if not found:
        raise DataError(path, "no rows, only blank lines", do="give a file with data")


def _raw_lines(path: Path, most: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Number, offset, bytes and size of each line; of a line above ``most`` bytes only the head."""
    with open(path, "rb") as file:
        offset = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        file.seek(offset)
        number, head, size = 1, b"", 0
        while block := file.read(_BLOCK):
            *whole, rest = block.split(b"\n")
            for part in whole:
                length = size + len(part)
                yield number, offset, head + part if length <= most else (head or part)[:64], length
                number, offset, head, size = number + 1, offset + length + 1, b"", 0
            size += len(rest)
            head = head + rest if size <= most else (head or rest)[:64]
        yield number, offset, head, size


def decode_line(
    path: Path, number: int, raw: bytes, size: int, policy: RowPolicy, *, offset: int | None = None
) -> str:
    """The text of a line.

    Args:
        path: its file.
        number: its number, from 1.
        raw: its bytes without its end, or only the first where there are more than the policy allows.
        size: bytes it has.
        policy: the longest line accepted.
        offset: where it begins in the file; None counts bytes from the start of the line.

    Raises:
        DataError: too long, a lone CR, a NUL, or not UTF-8.
    """
    if size > policy.max_line_bytes:
        what = f"a line of {size} bytes, longer than data.max_line_bytes={policy.max_line_bytes}"
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
        at = (offset or 0) + error.start
        saw = raw[error.start : error.start + 8]
        if error.end == len(raw) and "unexpected end" in error.reason:
            do = "the file was cut inside a character; copy it again"
        else:
            do = f"it looks like {_guess(path)}; convert it to UTF-8 with iconv"
        what = f"not UTF-8 at byte {at} of the {'line' if offset is None else 'file'}"
        raise DataError(path, what, line=number, saw=saw, do=do) from None


def _guess(path: Path) -> str:
    """The first encoding of a short list that the head of the file decodes in."""
    with open(path, "rb") as file:
        data = file.read(_BLOCK)
    # A cut at 1 MiB may fall inside a character, hence the incremental decoder.
    for encoding in ("gb18030", "big5", "shift_jis"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(data)
        except UnicodeDecodeError:
            continue
        return {"gb18030": "GBK"}.get(encoding, encoding.upper())
    return "Latin-1 or binary"
