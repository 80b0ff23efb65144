"""What all question data share: a base of keys, the training layout, and the index."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kexue_pl.data.base import DataModule, Row
from kexue_pl.reading import DataError
from kexue_pl.reading.errors import shown
from kexue_pl.reading.lines import near_names
from kexue_pl.retrieval import PrefixIndex, Strings, build_index, fingerprint
from kexue_pl.retrieval.choices import Choices
from kexue_pl.retrieval.encode import Encode, concatenate, encoder_of

_LOG = logging.getLogger(__name__)

WINDOW = 32  # batches whose rows are sorted by length
Record = tuple[tuple[str, ...], str]  # (segments of the key, value)


class QuestionData(DataModule):
    """Questions whose answers are keys of a base.

    A row holds ``question``, ``key`` (the segments in the order they are generated) and ``value``.
    A subclass fills the sets and ``base`` in ``setup``.

    Args:
        batch_size: questions of one training batch over all ranks.
        eval_batch_size: questions decoded at once on each rank.
        num_workers: loader processes for each rank.
        seed: of order, augmentation and drawn bases.
        max_question: longest question in tokens; longer ones are cut.
        max_length: longest training row in tokens, question and key together.
        swap: share of the training rows whose name is replaced, in question and key, by the name
            of another row or by random characters of the base's names: teaches copying.
        rename: share of the training rows in which every character that question and key share
            outside the name is replaced, in both, by a random one: teaches that a predicate is
            made of what the question says.
        noise: share of the characters around the name that are left out of a training question, and
            chance of a few foreign ones: the wording of a test is new.
        index: folder of a stored index to answer from, instead of one built from the base.
        strict: refuse questions and rows that are too long, instead of cutting and counting them.
    """

    segments: tuple[str, ...] = ("subject", "predicate", "meaning")

    def __init__(
        self,
        *,
        batch_size: int = 32,
        eval_batch_size: int | None = 32,
        num_workers: int = 0,
        seed: int = 0,
        max_question: int = 72,
        max_length: int = 128,
        swap: float = 0.3,
        rename: float = 0.0,
        noise: float = 0.0,
        index: str | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        if not 0 <= swap <= 1:
            raise ValueError(f"data.swap={swap}: a share between 0 and 1")
        if not 0 <= rename <= 1:
            raise ValueError(f"data.rename={rename}: a share between 0 and 1")
        if not 0 <= noise < 1:
            raise ValueError(f"data.noise={noise}: a share from 0 to below 1")
        self.max_question, self.max_length, self.swap = max_question, max_length, swap
        self.noise, self.rename = noise, rename
        self.index, self.strict = index, strict
        self.base: list[Record] = []
        self._measured = False
        self.tune_set: list[Row] = []  # questions of predicates kept from training, if any
        self.choices: Choices | None = None  # what the base allows beside each training key
        self._letters: list[str] = []

    def texts(self) -> Iterable[str]:
        """Training questions and every segment of the base, for the character vocabulary."""
        for row in self.train_set or []:
            yield str(row["question"])
        for key, _ in self.base:
            yield from key

    def train_dataloader(self) -> Any:
        """As in the base; too long rows are counted first, or refused."""
        self.measure()
        return super().train_dataloader()

    def val_dataloader(self) -> Any:
        """As in the base; too long rows are counted first, or refused."""
        self.measure()
        return super().val_dataloader()

    def test_dataloader(self) -> Any:
        """As in the base; too long rows are counted first, or refused."""
        self.measure()
        return super().test_dataloader()

    def measure(self) -> None:
        """Count questions above ``max_question`` and training rows above ``max_length``, once.

        Raises:
            DataError: there is one, and ``strict`` is set.
        """
        if self._measured or self.tokenizer is None:
            return
        self._measured = True
        for name in ("train", "valid", "test"):
            rows: Sequence[Row] = getattr(self, f"{name}_set") or []
            lengths = self.encode([row["question"] for row in rows]).lengths
            most, setting = self.max_question, f"data.max_question={self.max_question}"
            self._too_long(name, "questions", rows, lengths, most, setting)
            if name == "train":
                keys = self.encode([text for row in rows for text in row["key"]]).lengths
                whole = np.add.reduceat(keys + 1, _starts(rows)) if len(rows) else keys
                whole = whole + np.minimum(lengths, self.max_question) + 2
                setting = f"data.max_length={self.max_length}"
                self._too_long(name, "rows", rows, whole, self.max_length, setting)

    def _too_long(
        self, name: str, what: str, rows: Sequence[Row], lengths: Any, most: int, setting: str
    ) -> None:
        cut = np.flatnonzero(lengths > most)
        if not len(cut):
            return
        first = int(cut[0])
        saw, length = rows[first]["question"], int(lengths[first])
        if self.strict:
            text = f"row {first} has {length} tokens, more than {setting}"
            do = f"raise {setting.partition('=')[0]}, shorten it, or set data.strict=false"
            raise DataError(f"data.{name}", text, saw=saw, do=do)
        self.counts[f"{name}_{what}_cut"] = len(cut)
        _LOG.warning(
            "data.%s: %d %s are longer than %s and are cut, the first is row %d with %d tokens: %s",
            name, len(cut), what, setting, first, length, shown(saw),
        )  # fmt: skip

    def train_batches(self, epoch: int) -> list[list[int]]:
        """Batches of questions of like length: a third of the work is padding otherwise.

        The rows of ``WINDOW`` batches of the usual order are sorted by length, cut again, and the
        batches shuffled: which rows make an epoch stays as it was.
        """
        batches = super().train_batches(epoch)
        size, length = len(batches[0]), self._lengths()
        out: list[list[int]] = []
        for start in range(0, len(batches), WINDOW):
            rows = [row for batch in batches[start : start + WINDOW] for row in batch]
            rows.sort(key=length.__getitem__)
            out += [rows[at : at + size] for at in range(0, len(rows), size)]
        random.Random(f"{self.seed}/{epoch}/batches").shuffle(out)
        return out

    def make_index(self) -> PrefixIndex:
        """The index of the base under the tokenizer, or the stored one.

        Raises:
            ValueError: no base and no index, or a stored index made with another tokenizer.
        """
        if self.index is not None:
            return PrefixIndex.load(self.index, tokenizer=fingerprint(self.tokenizer))
        return index_records(self.base, self.tokenizer)

    def encode(self, texts: Sequence[str]) -> Strings:
        """Token strings of texts, without special tokens."""
        return self._encoder()(list(texts))

    def question_tokens(self, texts: Sequence[str]) -> Strings:
        """Token strings of questions, cut to ``max_question``."""
        strings = self.encode(texts)
        kept = [strings[i][: self.max_question] for i in range(len(strings))]
        return Strings.of(kept)

    def keys_of(self, rows: Sequence[Row]) -> list[list[int]]:
        """Tokens of the key of each row, a separator after each segment."""
        sep = self.tokenizer.sep_token_id
        parts = self.encode([text for row in rows for text in row["key"]])
        ends = [*_starts(rows).tolist(), len(parts)]
        return [
            [token for k in range(a, b) for token in (*parts[k], sep)]
            for a, b in itertools.pairwise(ends)
        ]

    def sources(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``[CLS] Q [SEP]`` of each question, padded: ids (B, L) and mask (B, L)."""
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        strings = self.question_tokens(texts)
        return self._pad([[cls, *strings[i], sep] for i in range(len(strings))])

    def collate(self, rows: list[Row]) -> dict[str, Any]:
        """The article's layout: ``[CLS] Q [SEP] S [SEP] P [SEP] M [SEP]``, segment 0 up to the
        first SEP.
        """
        rows = [self._augmented(row) for row in rows]
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        questions, most = self.question_tokens([row["question"] for row in rows]), self.max_length
        sources = [[cls, *questions[i], sep][:most] for i in range(len(rows))]
        pairs = zip(self.keys_of(rows), sources, strict=True)
        keys = [key[: most - len(source)] for key, source in pairs]
        ids = [source + key for source, key in zip(sources, keys, strict=True)]
        segments = [[0] * len(s) + [1] * len(k) for s, k in zip(sources, keys, strict=True)]
        input_ids, mask = self._pad(ids)
        segment, _ = self._pad(segments)
        number = torch.tensor([row["row_id"] for row in rows])
        batch = {
            "input_ids": input_ids, "segment": segment, "attention_mask": mask, "row_id": number
        }  # fmt: skip
        if self.choices is not None and all(row.get("train") for row in rows):
            choices = self.choices.batch([row["row_id"] for row in rows], keys)
            batch["choices"] = torch.from_numpy(choices)
        return batch

    def _lengths(self) -> list[int]:
        return [len(row["question"]) + sum(map(len, row["key"])) for row in self.train_set or []]

    def _encoder(self) -> Encode:
        return encoder_of(self.tokenizer)

    def _pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return ids, mask

    def _augmented(self, row: Row) -> Row:
        """A training row with another name and a noisy question, drawn from (seed, epoch, row)."""
        if not row.get("train") or not self.train_set:
            return row
        draw = random.Random(f"{self.seed}/{row['epoch']}/{row['row_id']}")
        name, question = row["key"][0], row["question"]
        before, found, after = question.partition(name) if name else (question, "", "")
        if found and draw.random() < self.swap:
            found = self._other_name(draw)
        rest = list(row["key"][1:])
        if self.rename and draw.random() < self.rename:
            before, after, *rest = self._renamed([before, after], rest, draw)
        if self.noise:
            before, after = (self._noisy(text, draw) for text in (before, after))
        return {**row, "question": before + found + after, "key": (found or name, *rest)}

    def _other_name(self, draw: random.Random) -> str:
        if self.train_set and draw.random() < 0.5:
            return str(self.train_set[draw.randrange(len(self.train_set))]["key"][0])
        return "".join(draw.choices(self._alphabet(), k=draw.randint(2, 6)))

    def _renamed(self, wording: list[str], rest: list[str], draw: random.Random) -> list[str]:
        """The texts with every character that both lists hold replaced by one of the names'."""
        said = "".join(wording)
        shared = [c for c in dict.fromkeys("".join(rest)) if c in said and not c.isspace()]
        letters = self._alphabet()
        count = min(len(shared), len(letters))
        table = str.maketrans(dict(zip(shared, draw.sample(letters, count), strict=False)))
        return [text.translate(table) for text in (*wording, *rest)]

    def _noisy(self, text: str, draw: random.Random) -> str:
        """Characters left out, and sometimes a few foreign ones in front."""
        kept = "".join(c for c in text if draw.random() >= self.noise)
        if draw.random() < self.noise:
            kept = "".join(draw.choices(self._alphabet(), k=draw.randint(1, 3))) + kept
        return kept

    def _alphabet(self) -> list[str]:
        if not self._letters:
            self._letters = sorted({c for key, _ in self.base for c in key[0] if not c.isspace()})
        return self._letters


def _starts(rows: Sequence[Row]) -> Any:
    """Where the segments of each row begin in the list of all segments."""
    return np.cumsum([0, *(len(row["key"]) for row in rows[:-1])])


def index_records(records: Sequence[Record], tokenizer: Any) -> PrefixIndex:
    """Index of (segments, value) records; every distinct text is tokenised once.

    Raises:
        ValueError: no records.
    """
    import pyarrow as pa

    if not records:
        raise ValueError("data: the base has no keys; give data.train or data.index")
    encode, pools, columns, texts = encoder_of(tokenizer), [], [], []
    for k in range(len(records[0][0])):
        numbers: dict[str, int] = {}
        column = [numbers.setdefault(key[k], len(numbers)) for key, _ in records]
        columns.append(np.array(column, np.int64))
        pools.append(concatenate([encode(list(numbers))]))
        texts.append(pa.array(list(numbers), pa.large_string()))
    values = pa.array([value for _, value in records], pa.large_string())
    return build_index(
        pools,
        columns,
        values,
        separator=tokenizer.sep_token_id,
        tokenizer=fingerprint(tokenizer),
        texts=texts,
    )


def existing(path: str | None, key: str) -> Path:
    """A path of the configuration that must be a file.

    Raises:
        DataError: names the key, and files of near names.
    """
    if path is None or not Path(path).is_file():
        near = ", ".join(near_names(Path(path))) if path else ""
        do = f"near names there: {near}" if near else f"give {key}=FILE"
        raise DataError(f"{key}={path}", "no such file", do=do)
    return Path(path)
