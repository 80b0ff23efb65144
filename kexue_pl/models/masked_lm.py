"""A small masked language model from a configuration, with positions to choose."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kexue_pl.attention import (
    NTK,
    ALiBi,
    Positions,
    ReRoPE,
    RoPE,
    ScaledAttention,
    Scaling,
    Standard,
    install,
)
from kexue_pl.models.text_body import suit_text

__all__ = ["MaskedLM", "MaskedLanguageModel", "PositionKind", "make_positions"]

PositionKind = Literal["rope", "ntk", "rerope", "alibi", "none"]


def make_positions(
    kind: str, *, train_length: int = 512, window: int | None = None, rope_base: float = 10_000.0
) -> Positions:
    """Positions by name.

    Args:
        kind: ``rope``, ``ntk`` (base grows beyond the training length), ``rerope`` (RoPE in
            training, distances clipped to ``window`` in evaluation), ``alibi`` or ``none``.
        train_length: tokens of a training row.
        window: of ReRoPE; None = three quarters of the training length.
        rope_base: base of the rotary kinds.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "rope":
        return RoPE(base=rope_base)
    if kind == "ntk":
        return NTK(train_length=train_length, base=rope_base)
    if kind == "rerope":
        return ReRoPE(window=window or max(1, train_length * 3 // 4), base=rope_base)
    if kind == "alibi":
        return ALiBi()
    if kind == "none":
        return Positions()
    accepted = ", ".join(get_args(PositionKind))
    raise ValueError(f"model.positions={kind!r}: expected one of {accepted}")


class MaskedLanguageModel(nn.Module):
    """A transformers model for masked language modelling that predicts chosen places only.

    Args:
        model: its body dispatches to the attention interface.
        function: the attention function installed in it.
        segments: size of an embedding of segment ids added to the words; 0 for none.
        std: of the segment embedding at the start.
    """

    def __init__(
        self, model: Any, function: ScaledAttention, *, segments: int = 0, std: float = 1.0
    ) -> None:
        super().__init__()
        self.model = model
        self.function = function
        self.segments: nn.Embedding | None = None
        if segments:
            self.segments = nn.Embedding(segments, model.config.hidden_size)
            nn.init.normal_(self.segments.weight, 0.0, std)

    @property
    def embeddings(self) -> nn.Module:
        """The word embeddings."""
        words: nn.Module = self.model.get_input_embeddings()
        return words

    def forward(
        self,
        input_ids: Tensor,
        chosen: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Logits (M, V) of the chosen tokens, in row-major order.

        Args:
            input_ids: (B, n) int64.
            chosen: (B, n) bool, M of them true.
            attention_mask: (B, n), 1 on tokens, or None where all are.
            token_type_ids: (B, n) segment ids, None where there are none.
        """
        inputs: dict[str, Tensor] = {"input_ids": input_ids}
        if self.segments is not None and token_type_ids is not None:
            words = self.embeddings(input_ids)
            inputs = {"inputs_embeds": words + self.segments(token_type_ids)}
        elif token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask
        head = getattr(self.model, "lm_head", None) or getattr(self.model, "cls", None)
        if head is None:
            return torch.as_tensor(self.model(**inputs).logits[chosen])
        states = self.model.base_model(**inputs).last_hidden_state
        return torch.as_tensor(head(states[chosen]))


class MaskedLM:
    """Specification of a pre-norm transformer with a masked language modelling head.

    The body is transformers' ESM without its own positions; they are given inside the attention
    function. Sizes left open are those that suit the data (recall 32 wide, text 128 wide).

    Args:
        hidden_size: H, a multiple of ``heads``; None = what suits the data.
        layers: transformer layers; None likewise.
        heads: attention heads a layer; None likewise.
        positions: ``rope``, ``ntk``, ``rerope``, ``alibi`` or ``none``; None likewise.
        rope_base: base of the rotary kinds.
        window: of rerope, in tokens; None = three quarters of the training length.
        dropout: of hidden states and attention weights, 0 to 1.
        tokenizer: ``char``, ``wordpiece`` or ``bpe``; read by data with text.
        vocab_size: most tokens.
        min_frequency: rarer characters or pieces get no token of their own.
    """

    def __init__(
        self,
        *,
        hidden_size: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        positions: str | None = None,
        rope_base: float = 10_000.0,
        window: int | None = None,
        dropout: float = 0.0,
        tokenizer: str = "bpe",
        vocab_size: int = 1024,
        min_frequency: int = 2,
    ) -> None:
        if positions is not None:
            make_positions(positions, window=window, rope_base=rope_base)
        self.sizes = {"hidden_size": hidden_size, "layers": layers, "heads": heads}
        self.positions, self.rope_base, self.window = positions, rope_base, window
        self.dropout = dropout
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self.min_frequency = min_frequency

    def load_tokenizer(self) -> None:
        """None: the vocabulary is trained, or the data has one of its own."""
        return

    def train_tokenizer(self, texts: Iterable[str]) -> Any:
        """A tokenizer trained on ``texts``, kept in the cache of the data where there is one."""
        from transformers import PreTrainedTokenizerFast

        from kexue_pl.documents import Documents, cached
        from kexue_pl.models.tokenizers import train_tokenizer

        if not isinstance(texts, Documents):
            return self._train(train_tokenizer, texts)
        settings = f"{texts.key}|{self.tokenizer}|{self.vocab_size}|{self.min_frequency}"
        name = f"tokenizer-{hashlib.sha256(settings.encode()).hexdigest()[:24]}.json"

        def make(path: Path) -> None:
            self._train(train_tokenizer, texts).backend_tokenizer.save(str(path))

        return PreTrainedTokenizerFast(
            tokenizer_file=str(cached(texts.cache, name, make)),
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token="[MASK]",
        )

    def _train(self, train: Any, texts: Iterable[str]) -> Any:
        return train(
            texts,
            kind=self.tokenizer,
            vocab_size=self.vocab_size,
            min_frequency=self.min_frequency,
            lowercase=False,
        )

    def build(
        self,
        tokenizer: Any,
        *,
        attention: Scaling | None = None,
        segments: int = 0,
        train_length: int = 512,
        proportions: Mapping[str, Any] | None = None,
    ) -> MaskedLanguageModel:
        """The model for a vocabulary, its weights drawn from the current random state.

        Args:
            tokenizer: whose vocabulary the embeddings cover.
            attention: the scaling of the logits; None = the standard one.
            segments: number of segment ids of the data, 0 for none.
            train_length: tokens of a training row, for positions that depend on it.
            proportions: sizes that suit the data, for those left open.
        """
        from transformers import EsmConfig, EsmForMaskedLM

        suits: dict[str, Any] = {"hidden_size": 128, "layers": 3, "heads": 4, "positions": "rope"}
        suits.update(proportions or {})
        size = {name: value or int(suits[name]) for name, value in self.sizes.items()}
        if size["hidden_size"] % size["heads"]:
            raise ValueError(
                f"model.hidden_size={size['hidden_size']}, model.heads={size['heads']}: choose a "
                "multiple of model.heads"
            )
        config = EsmConfig(
            vocab_size=len(tokenizer),
            hidden_size=size["hidden_size"],
            num_hidden_layers=size["layers"],
            num_attention_heads=size["heads"],
            intermediate_size=4 * size["hidden_size"],
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            position_embedding_type="none",
            token_dropout=False,
            emb_layer_norm_before=False,
            # Symbols shown and symbols recalled play different parts; text is the better for tying.
            tie_word_embeddings=not segments,
            pad_token_id=tokenizer.pad_token_id,
            mask_token_id=tokenizer.mask_token_id,
        )
        model = EsmForMaskedLM(config)
        if config.tie_word_embeddings:
            suit_text(model)
        model.esm.contact_head = nn.Identity()  # never read; unused weights break data parallelism
        _draw(model)
        positions = make_positions(
            self.positions or suits["positions"],
            train_length=train_length,
            window=self.window,
            rope_base=self.rope_base,
        )
        function = install(model, attention or Standard(), positions)
        return MaskedLanguageModel(model, function, segments=segments)


@torch.no_grad()
def _draw(model: Any) -> None:
    """Weights for a narrow model: matrices that keep the variance, and words fit for their use.

    The usual 0.02 is meant for widths near 1,000; at 32 or 128 it delays learning by hundreds of
    steps. Layers that write into the residual stream start smaller, by ``sqrt(2 layers)``.
    """
    depth = (2 * model.config.num_hidden_layers) ** -0.5
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            std = 0.8 * module.in_features**-0.5
            nn.init.normal_(module.weight, 0.0, std * (depth if "output.dense" in name else 1.0))
    words = model.get_input_embeddings().weight
    tied = model.config.tie_word_embeddings
    nn.init.normal_(words, 0.0, 0.02 if tied else 1.0)
