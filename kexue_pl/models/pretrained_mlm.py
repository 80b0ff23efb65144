"""Any pretrained masked language model of transformers, with another scaling in its attention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kexue_pl.attention import Scaling, Standard, install, roformer_to_bert
from kexue_pl.models.loading import check_vocabulary, load_pretrained
from kexue_pl.models.masked_lm import MaskedLanguageModel

__all__ = ["PretrainedMLM"]


class PretrainedMLM:
    """Specification of a pretrained masked language model: continue it, or only test it.

    ``train=false`` tests the model as it is with any scaling; else training continues from its
    weights. RoFormer checkpoints are put on a BERT body, where the scalings reach them.

    Args:
        path: folder with config.json, model.safetensors and a tokenizer, or hub id.
        revision: commit, tag or branch of a hub id.
        dropout: replaces the model's own where given, 0 to 1.
    """

    def __init__(
        self, *, path: str, revision: str | None = None, dropout: float | None = None
    ) -> None:
        self.path, self.revision, self.dropout = path, revision, dropout

    def load_tokenizer(self) -> Any:
        """The tokenizer of the model.

        Raises:
            ValueError: neither a model folder nor a hub id that can be loaded.
        """
        from transformers import AutoTokenizer

        return self._load(AutoTokenizer)

    def train_tokenizer(self, texts: Iterable[str]) -> Any:
        """Refused: a pretrained model has its own vocabulary."""
        raise ValueError("model=pretrained_mlm brings its own tokenizer")

    def build(
        self,
        tokenizer: Any,
        *,
        attention: Scaling | None = None,
        segments: int = 0,
        train_length: int = 512,
        proportions: Mapping[str, Any] | None = None,
    ) -> MaskedLanguageModel:
        """The model with its pretrained weights.

        Args:
            tokenizer: the model's own.
            attention: the scaling to put into it; None = the standard one.
            segments: number of segment ids of the data; more than the model's types is refused.
            train_length: not read: the model brings its positions.
            proportions: not read: the model brings its sizes.

        Raises:
            ValueError: data with segments, such as recall; a tokenizer of another model.
        """
        from transformers import AutoConfig, AutoModelForMaskedLM

        if segments:
            raise ValueError(
                "model=pretrained_mlm: this data has symbols of its own; use data=text"
            )
        config = self._load(AutoConfig)
        if self.dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = self.dropout
        model = self._load(AutoModelForMaskedLM, config=config).float()
        rows = model.get_input_embeddings().num_embeddings
        check_vocabulary(tokenizer, rows, key=f"model.path={self.path}")
        if config.model_type == "roformer":
            from kexue_pl.attention import RoPE

            model = roformer_to_bert(model)
            function = install(model, attention or Standard(), RoPE())
        else:
            function = install(model, attention or Standard())
        return MaskedLanguageModel(model, function)

    def _load(self, factory: Any, **options: Any) -> Any:
        return load_pretrained(factory, self.path, revision=self.revision, **options)
