"""Specification of an encoder-decoder: from a configuration, or pretrained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexue_pl.models.encoder_decoder_model import EncoderDecoderModel
from kexue_pl.models.loading import check_vocabulary, load_pretrained

KINDS = ("bart", "t5")


class EncoderDecoder:
    """BART or T5 that reads questions and writes keys.

    Args:
        kind: ``bart`` or ``t5``, for weights drawn anew.
        hidden_size: H, a multiple of ``heads``.
        layers: layers of the encoder, and of the decoder.
        heads: attention heads a layer.
        max_length: most tokens of a question, and of a key.
        dropout: 0 to 1.
        pretrained: local folder or hub name; its size and vocabulary replace the settings above.
        vocab_size: most characters of a vocabulary that is trained.
        lr: learning rate that suits the model; the task's default.
    """

    def __init__(
        self,
        *,
        kind: str = "bart",
        hidden_size: int = 128,
        layers: int = 2,
        heads: int = 4,
        max_length: int = 128,
        dropout: float = 0.1,
        pretrained: str | None = None,
        vocab_size: int = 16000,
        lr: float = 1e-3,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"model.kind={kind!r}: expected one of {', '.join(KINDS)}")
        if hidden_size % heads:
            raise ValueError(
                f"model.hidden_size={hidden_size}, model.heads={heads}: "
                "choose a multiple of model.heads"
            )
        self.kind, self.hidden_size, self.layers, self.heads = kind, hidden_size, layers, heads
        self.max_length, self.dropout, self.pretrained = max_length, dropout, pretrained
        self.vocab_size, self.lr = vocab_size, lr

    def load_tokenizer(self) -> Any:
        """The pretrained model's tokenizer, None for a model from scratch."""
        if self.pretrained is None:
            return None
        from transformers import AutoTokenizer

        return load_pretrained(AutoTokenizer, self.pretrained, key="model.pretrained")

    def train_tokenizer(self, texts: Iterable[str]) -> Any:
        """One token a character; unknown characters are spelled in bytes."""
        from kexue_pl.models.tokenizers import train_tokenizer

        return train_tokenizer(
            texts,
            kind="char",
            vocab_size=self.vocab_size,
            min_frequency=1,
            max_length=self.max_length,
        )

    def build(self, tokenizer: Any, *, attention: Any = None) -> EncoderDecoderModel:
        """The model for a vocabulary; ``attention`` is a scaling of ``kexue_pl.attention``."""
        from transformers import AutoModelForSeq2SeqLM

        if self.pretrained is not None:
            body = load_pretrained(AutoModelForSeq2SeqLM, self.pretrained, key="model.pretrained")
            rows = body.get_input_embeddings().num_embeddings
            check_vocabulary(tokenizer, rows, key=f"model.pretrained={self.pretrained}")
        else:
            body = self._new(tokenizer)
        if attention is not None:
            from kexue_pl.attention import install

            install(body, attention)
        start = body.config.decoder_start_token_id
        return EncoderDecoderModel(body, start=tokenizer.cls_token_id if start is None else start)

    def _new(self, tokenizer: Any) -> Any:
        from transformers import (
            BartConfig,
            BartForConditionalGeneration,
            T5Config,
            T5ForConditionalGeneration,
        )

        special = {
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "decoder_start_token_id": tokenizer.cls_token_id,
        }
        if self.kind == "bart":
            config = BartConfig(
                **special,
                bos_token_id=tokenizer.cls_token_id,
                forced_eos_token_id=None,
                d_model=self.hidden_size,
                encoder_layers=self.layers,
                decoder_layers=self.layers,
                encoder_attention_heads=self.heads,
                decoder_attention_heads=self.heads,
                encoder_ffn_dim=4 * self.hidden_size,
                decoder_ffn_dim=4 * self.hidden_size,
                max_position_embeddings=self.max_length + 2,
                dropout=self.dropout,
            )
            return BartForConditionalGeneration(config)
        config = T5Config(
            **special,
            d_model=self.hidden_size,
            d_kv=self.hidden_size // self.heads,
            d_ff=4 * self.hidden_size,
            num_layers=self.layers,
            num_heads=self.heads,
            dropout_rate=self.dropout,
        )
        return T5ForConditionalGeneration(config)
