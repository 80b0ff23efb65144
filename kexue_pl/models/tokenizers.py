"""Vocabularies trained on the training texts, for models from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

__all__ = ["KINDS", "SPECIALS", "train_tokenizer"]

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
"""Special tokens in the order of their ids."""

KINDS = ("char", "wordpiece", "bpe")
"""What can be trained."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: str = "char",
    vocab_size: int = 8000,
    min_frequency: int = 2,
    lowercase: bool = True,
    max_length: int = 512,
) -> Any:
    """A fast tokenizer of transformers with [CLS] and [SEP] around texts and pairs.

    Args:
        texts: training texts.
        kind: ``char``, one token a character and UTF-8 bytes for rare ones, so that unknown
            characters stay apart; ``wordpiece`` as in BERT, each Chinese character by itself;
            ``bpe`` over bytes.
        vocab_size: most tokens, special ones included.
        min_frequency: characters or pieces that occur less often get no token.
        lowercase: fold case and compatibility forms (NFKC) first.
        max_length: texts are cut to this length when truncation is asked for.

    Raises:
        ValueError: unknown ``kind``, a ``vocab_size`` too small, or no texts.

    >>> tokenizer = train_tokenizer(["氢气", "氢"], min_frequency=1)
    >>> tokenizer.convert_ids_to_tokens(tokenizer("氢气").input_ids)
    ['[CLS]', '氢', '气', '[SEP]']
    >>> len(tokenizer("氦", add_special_tokens=False).input_ids)  # three bytes of UTF-8
    3
    """
    from tokenizers import normalizers, processors
    from transformers import PreTrainedTokenizerFast

    if kind not in KINDS:
        raise ValueError(f"model.tokenizer={kind!r}: expected one of {', '.join(KINDS)}")
    if vocab_size < 300:
        raise ValueError(f"model.vocab_size={vocab_size}: expected at least 300")
    trainer = {"char": _characters, "wordpiece": _wordpiece, "bpe": _bpe}[kind]
    core = trainer(texts, vocab_size, min_frequency, lowercase)
    if lowercase:
        core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    cls, sep = SPECIALS.index("[CLS]"), SPECIALS.index("[SEP]")
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=max_length,
        # Without this a reloaded tokenizer would give a pair no token types.
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _folded(texts: Iterable[str], lowercase: bool) -> Iterable[str]:
    import unicodedata

    for text in texts:
        yield unicodedata.normalize("NFKC", text).lower() if lowercase else text


def _characters(texts: Iterable[str], size: int, least: int, lowercase: bool) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    counts: Counter[str] = Counter()
    for text in _folded(texts, lowercase):
        counts.update(text)
    known = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    if not known:
        raise ValueError("no training texts for the tokenizer; check data.train")
    fixed = SPECIALS + [f"<0x{byte:02X}>" for byte in range(256)]
    kept = [c for c in known if counts[c] >= least][: size - len(fixed)]
    vocab = {token: number for number, token in enumerate(fixed + kept)}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="[UNK]", byte_fallback=True))
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return core


def _wordpiece(texts: Iterable[str], size: int, least: int, lowercase: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=least, special_tokens=SPECIALS, show_progress=False
    )
    # BertPreTokenizer leaves Chinese words whole; spaces around each character part them.
    spaced = (_spaced(text) for text in _folded(texts, lowercase))
    core.train_from_iterator(spaced, trainer)
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_cjk_pattern(), behavior="isolated"),
            pre_tokenizers.BertPreTokenizer(),
        ]
    )
    return core


_CJK = "[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"


def _cjk_pattern() -> Any:
    from tokenizers import Regex

    return Regex(_CJK)


def _spaced(text: str) -> str:
    import re

    return re.sub(f"({_CJK})", r" \1 ", text)


def _bpe(texts: Iterable[str], size: int, least: int, lowercase: bool) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(_folded(texts, lowercase), trainer)
    return core
