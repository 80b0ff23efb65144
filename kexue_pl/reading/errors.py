"""The error of all readers, and the policy for rows that cannot be read."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BadRow", "DataError", "RowPolicy", "shown"]

_LOG = logging.getLogger(__name__)
_SHOWN = 80


def shown(value: Any) -> str:
    """A short one-line rendering of a value for a message.

    >>> shown("a" * 100)[-12:]
    "aa'... (100)"
    """
    text = repr(value)
    if len(text) <= _SHOWN + 2:
        return text
    size = len(value) if isinstance(value, (str, bytes)) else len(text)
    return f"{text[: _SHOWN - 1]}'... ({size})"


class DataError(ValueError):
    """Input that cannot be used: ``FILE:LINE: what; saw ...; do ...``.

    Args:
        where: file or source.
        what: what is wrong.
        line: 1-based line (or row) number, None where no line is at fault.
        saw: the offending value.
        do: what mends it.

    >>> print(DataError("a.tsv", "too few fields", line=3, saw="x", do="separate by tabs"))
    a.tsv:3: too few fields; saw 'x'; do: separate by tabs
    """

    def __init__(
        self,
        where: str | Path,
        what: str,
        *,
        line: int | None = None,
        saw: Any = None,
        do: str | None = None,
    ) -> None:
        self.where, self.what, self.line, self.saw, self.do = str(where), what, line, saw, do
        text = f"{where}:{line}: {what}" if line is not None else f"{where}: {what}"
        if saw is not None:
            text += f"; saw {shown(saw)}"
        if do is not None:
            text += f"; do: {do}"
        super().__init__(text)


@dataclass(frozen=True)
class BadRow:
    """A row that was skipped: where it stands and why."""

    file: str
    line: int | None
    what: str
    saw: str


@dataclass
class RowPolicy:
    """What happens to a row that cannot be read.

    Args:
        on_error: ``raise`` stops at the first bad row, ``skip`` leaves it out and counts it.
        max_bad: more skipped rows than this are an error all the same.
        report: file that lists the skipped rows, one JSON object a line.
        max_line_bytes: longest line accepted, so that a wrong file cannot fill the memory.
    """

    on_error: str = "raise"
    max_bad: int = 100
    report: Path | None = None
    max_line_bytes: int = 16 * 2**20
    bad: list[BadRow] = field(default_factory=list)
    _places: set[tuple[str, int | None]] = field(default_factory=set, repr=False)
    _told: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f"data.on_error={self.on_error!r}: expected raise or skip")
        if self.max_bad < 0:
            raise ValueError(f"data.max_bad={self.max_bad}: expected 0 or more")

    def fault(self, error: DataError) -> None:
        """Raise ``error``, or note it and go on; a row that is read again is noted once."""
        if self.on_error == "raise":
            raise error
        place = (error.where, error.line)
        if error.line is not None and place in self._places:
            return
        self._places.add(place)
        self.bad.append(BadRow(error.where, error.line, error.what, shown(error.saw)))
        if len(self.bad) > self.max_bad:
            self.write()
            more = f"more than data.max_bad={self.max_bad} bad rows, the last: {error.what}"
            do = "mend the file or raise data.max_bad"
            raise DataError(error.where, more, line=error.line, saw=error.saw, do=do) from error

    def write(self) -> None:
        """Write the report and log the count, if there is anything new to report."""
        if len(self.bad) == self._told:
            return
        self._told = len(self.bad)
        first = self.bad[0]
        _LOG.warning(
            "%d bad rows were left out, the first at %s:%s (%s)",
            len(self.bad), first.file, first.line, first.what,
        )  # fmt: skip
        if self.report is not None:
            self.report.parent.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(vars(row), ensure_ascii=False) for row in self.bad]
            self.report.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
