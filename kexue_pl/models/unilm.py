"""Specification of a UniLM: from a configuration, or over a pretrained BERT or RoFormer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexue_pl.models.loading import check_vocabulary, load_pretrained
from kexue_pl.models.unilm_model import UniLMModel

POSITIONS = ("absolute", "rope")


class UniLM:
    """A BERT that reads questions and writes keys (kexue.fm/archives/8802).

    Args:
        hidden_size: H, a multiple of ``heads``.
        layers: transformer layers.
        heads: attention heads a layer.
        max_length: most tokens of question and key together.
        dropout: of hidden states and attention weights, 0 to 1.
        copy: let the output copy tokens of the question.
        positions: ``absolute`` (learned, BERT) or ``rope`` (rotary, RoFormer), for weights drawn anew.
        pretrained: local folder or hub name of a BERT, RoBERTa or RoFormer; its size, positions and
            vocabulary replace the settings above. None draws weights anew.
        vocab_size: most characters of a vocabulary that is trained.
        lr: learning rate that suits the model; the task's default.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 128,
        layers: int = 3,
        heads: int = 4,
        max_length: int = 192,
        dropout: float = 0.1,
        copy: bool = True,
        positions: str = "absolute",
        pretrained: str | None = None,
        vocab_size: int = 16000,
        lr: float = 1e-3,
    ) -> None:
        if hidden_size % heads:
            raise ValueError(
                f"model.hidden_size={hidden_size}, model.heads={heads}: "
                "choose a multiple of model.heads"
            )
        if positions not in POSITIONS:
            expected = ", ".join(POSITIONS)
            raise ValueError(f"model.positions={positions!r}: expected one of {expected}")
        self.hidden_size, self.layers, self.heads = hidden_size, layers, heads
        self.max_length, self.dropout, self.copy = max_length, dropout, copy
        self.positions = positions
        self.pretrained, self.vocab_size, self.lr = pretrained, vocab_size, lr

    def load_tokenizer(self) -> Any:
        """The pretrained model's tokenizer, None for a model from scratch."""
        if self.pretrained is None:
            return None
        from transformers import AutoTokenizer

        return load_pretrained(AutoTokenizer, self.pretrained, key="model.pretrained")

    def train_tokenizer(self, texts: Iterable[str]) -> Any:
        """One token a character; unknown characters are spelled in bytes, so they can be copied."""
        from kexue_pl.models.tokenizers import train_tokenizer

        return train_tokenizer(
            texts,
            kind="char",
            vocab_size=self.vocab_size,
            min_frequency=1,
            max_length=self.max_length,
        )

    def build(self, tokenizer: Any, *, attention: Any = None) -> UniLMModel:
        """The model for a vocabulary.

        Args:
            tokenizer: whose vocabulary the embeddings cover.
            attention: a scaling of ``kexue_pl.attention``, None for the usual one.
        """
        from transformers import BertModel

        if self.pretrained is not None:
            body, rope = self._load()
            rows = body.get_input_embeddings().num_embeddings
            check_vocabulary(tokenizer, rows, key=f"model.pretrained={self.pretrained}")
        else:
            body = BertModel(self._config(tokenizer), add_pooling_layer=False)
            rope = self.positions == "rope"
        if attention is not None:
            from kexue_pl.attention import install

            install(body, attention)
        return UniLMModel(body, copy=self.copy, rope=rope)

    def _load(self) -> tuple[Any, bool]:
        """The pretrained body, and whether its positions are rotary."""
        from transformers import AutoConfig, AutoModel, BertModel

        assert self.pretrained is not None
        key = "model.pretrained"
        config = load_pretrained(AutoConfig, self.pretrained, key=key)
        if config.model_type != "roformer":
            options = {"is_decoder": True, "add_pooling_layer": False}
            return load_pretrained(AutoModel, self.pretrained, key=key, **options), False
        from kexue_pl.attention.roformer import bert_config, copy_weights

        try:
            settings = bert_config(config)
        except ValueError as error:
            raise ValueError(f"{key}={self.pretrained}: {error}") from None
        settings.is_decoder = True
        body = BertModel(settings, add_pooling_layer=False)
        copy_weights(load_pretrained(AutoModel, self.pretrained, key=key), body)
        return body, True

    def _config(self, tokenizer: Any) -> Any:
        from transformers import BertConfig

        return BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.hidden_size,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            max_position_embeddings=self.max_length,
            pad_token_id=tokenizer.pad_token_id,
            is_decoder=True,  # only a decoder keeps a cache; the mask alone says who sees whom
        )
