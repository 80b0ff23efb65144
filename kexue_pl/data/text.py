"""Masked language modelling on any text: files, folders, tables, hub data sets."""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kexue_pl.data.masked_text import MaskedText, Split
from kexue_pl.documents import Documents
from kexue_pl.reading import DataError, Field, RowPolicy, check_file, iter_table

__all__ = ["Text", "pieces"]

_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_BLOCK = 2**20
_SHARE = 20  # one document of so many is for the test, one for validation


class Text(MaskedText):
    """Masked language modelling on text of your own, read strictly and in bounded memory.

    A source is a text file in UTF-8 (any ending that is not a table's), a table (JSON Lines, CSV,
    TSV, Parquet) with a text column, a folder of these, or ``hub:OWNER/NAME:SPLIT@REVISION``.

    Args:
        train: sources of the training text.
        valid: sources of the validation text; None deals it from the training documents, one in 20:
            by file where there are at least 20, else by pieces of 16,384 characters.
        test: sources of the test text; None likewise.
        field: name of the text column of tables.
        on_error: ``raise`` at the first bad row of a table, or ``skip`` and count.
        max_bad: more skipped rows than this are an error.
        bad_rows: file that lists skipped rows.
        train_length: see :class:`MaskedText`.
        eval_lengths: see :class:`MaskedText`.
        mask_rate: see :class:`MaskedText`.
        train_mask_rate: see :class:`MaskedText`.
        whole_word: see :class:`MaskedText`.
        max_tokens: see :class:`MaskedText`.
        test_tokens: see :class:`MaskedText`.
        batch_size: see :class:`MaskedText`.
        num_workers: see :class:`MaskedText`.
        seed: see :class:`MaskedText`.
    """

    def __init__(
        self,
        *,
        train: str | Sequence[str],
        valid: str | Sequence[str] | None = None,
        test: str | Sequence[str] | None = None,
        field: str = "text",
        on_error: str = "raise",
        max_bad: int = 100,
        bad_rows: str | None = None,
        train_length: int = 64,
        eval_lengths: Sequence[int] = (64, 128, 256, 512, 1024),
        mask_rate: float = 0.15,
        train_mask_rate: float | None = None,
        whole_word: bool = False,
        max_tokens: int | None = None,
        test_tokens: int = 65_536,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            train_length=train_length,
            eval_lengths=eval_lengths,
            mask_rate=mask_rate,
            train_mask_rate=train_mask_rate,
            whole_word=whole_word,
            max_tokens=max_tokens,
            test_tokens=test_tokens,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.field = field
        self.policy = RowPolicy(on_error, max_bad, None if bad_rows is None else Path(bad_rows))
        given: dict[Split, str | Sequence[str] | None] = {
            "train": train, "valid": valid, "test": test
        }  # fmt: skip
        self.given = {
            split: [source] if isinstance(source, str) else list(source)
            for split, source in given.items()
            if source is not None
        }
        self.sources: dict[str, list[str]] = {}

    def setup(self, stage: str) -> None:
        """List the files of all sources."""
        self.sources = {
            split: [file for source in sources for file in _files(source)]
            for split, sources in self.given.items()
        }

    def documents(self, split: Split) -> Documents:
        """Texts of a split, those of its own sources or its share of the training documents."""
        own = self.sources.get(split)
        shared = {"test", "valid"} - set(self.sources)
        if own is None or (split == "train" and shared):
            return self._documents(self.sources["train"], split, shared | {"train"})
        return self._documents(own, split, {split})

    def sample(self) -> Documents:
        """The first 4 million characters of the training text."""
        whole = self.documents("train")

        def read() -> Iterator[str]:
            left = 4_000_000
            for text in whole:
                yield text
                left -= len(text)
                if left <= 0:
                    return

        return Documents(read, f"sample {whole.key}", self.cache_dir)

    def _documents(self, files: list[str], split: str, among: set[str]) -> Documents:
        by_file = len(files) >= _SHARE

        def read() -> Iterator[str]:
            count = 0
            for number, file in enumerate(files):
                for text in self._texts(file):
                    if _owner(number if by_file else count, among) == split:
                        yield text
                    count += 1

        facts = [(file, _stamp(file)) for file in files]
        key = f"{split} {sorted(among)} {self.field} {self.policy.on_error} {facts}"
        return Documents(read, hashlib.sha256(key.encode()).hexdigest(), self.cache_dir)

    def _texts(self, file: str) -> Iterator[str]:
        if file.startswith("hub:") or file.endswith(_TABLES):
            fields = {self.field: Field(option="data.field")}
            for row in iter_table(file, fields, policy=self.policy):
                yield row.values[self.field]
            self.counts["bad_rows"] = len(self.policy.bad)
        else:
            yield from pieces(Path(file))


def pieces(path: Path, size: int = 16_384) -> Iterator[str]:
    """A text file in pieces of about ``size`` characters that end at line ends where there are any.

    Raises:
        DataError: bytes that are not UTF-8, a NUL, an empty file, no such file.
    """
    check_file(path)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest, lines, seen = "", 1, 0
    with open(path, "rb") as file:
        while True:
            block = file.read(_BLOCK)
            waiting = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                data = error.object
                line = lines + data.count(b"\n", 0, error.start)
                what = f"not UTF-8 at byte {seen - waiting + error.start} of the file"
                saw = data[error.start : error.start + 8]
                do = "convert it with iconv, or copy it again if it was cut"
                raise DataError(path, what, line=line, saw=saw, do=do) from None
            if "\0" in text:
                line = lines + text.count("\n", 0, text.index("\0"))
                do = "is this a text file in UTF-8?"
                raise DataError(path, "a NUL byte", line=line, do=do)
            seen, lines, rest = seen + len(block), lines + text.count("\n"), rest + text
            while len(rest) > size:
                cut = rest.rfind("\n", 0, size) + 1 or size
                yield rest[:cut]
                rest = rest[cut:]
            if not block:
                break
    if rest:
        yield rest


def _owner(number: int, among: set[str]) -> str:
    """Which split a document belongs to, where the splits ``among`` share the documents."""
    dealt = {0: "test", 1: "valid"}.get(number % _SHARE, "train")
    return dealt if dealt in among else "train"


def _files(source: str) -> list[str]:
    path = Path(source)
    if source.startswith("hub:") or not path.is_dir():
        return [source]
    found = sorted(
        str(file)
        for file in path.rglob("*")
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise DataError(path, "a folder without files", do="give a folder with text")
    return found


def _stamp(file: str) -> tuple[int, int] | None:
    path = Path(file)
    if not path.is_file():
        return None
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
