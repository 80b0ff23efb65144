"""Any pretrained encoder of transformers or sentence-transformers, from a folder or the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kexue_pl.models.encoder import TransformerEncoder
from kexue_pl.models.interaction import check_interaction
from kexue_pl.models.loading import check_vocabulary, inside, load_pretrained, read_json_file
from kexue_pl.models.pooling import check_pooling

__all__ = ["Pretrained"]

_ST_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


class Pretrained:
    """Specification of a pretrained encoder.

    Args:
        path: folder, or hub id; a folder written by sentence-transformers brings its pooling.
        revision: commit, tag or branch of a hub id.
        pooling: ``cls``, ``mean``, ``max`` or ``first_last_mean``; None takes that of a
            sentence-transformers folder, else ``mean``.
        interaction: ``bi``, ``late`` or ``cross``; read by task=matching.
        max_length: most tokens of one input; None takes the model's own limit.
        dropout: replaces the model's own where given, 0 to 1.
        lr: learning rate that suits this model; tasks take it as the optimizer's default.
    """

    def __init__(
        self,
        *,
        path: str,
        revision: str | None = None,
        pooling: str | None = None,
        interaction: str = "bi",
        max_length: int | None = None,
        dropout: float | None = None,
        lr: float = 2e-5,
    ) -> None:
        self.path, self.revision, self.lr, self.dropout = path, revision, lr, dropout
        self.interaction = check_interaction(interaction)
        own = _sentence_transformers(Path(path)) if Path(path).is_dir() else {}
        self.folder = str(own.get("folder", path))
        self.pooling = check_pooling(pooling or own.get("pooling", "mean"))
        self.max_length = max_length or own.get("max_length")
        self.match_flag = False
        self.joined = interaction == "cross"
        self._config: str | None = None  # of what was built
        self._recall: str | None = None  # of what is to be built without the folder

    def facts(self) -> dict[str, Any]:
        """What rebuilds the model without its folder: its configuration as JSON, pooling, length.

        A run keeps it in its checkpoints beside weights and tokenizer. {} before `build`.
        """
        if self._config is None:
            return {}
        return {"config": self._config, "pooling": self.pooling, "max_length": self.max_length}

    def recall(self, facts: dict[str, Any]) -> None:
        """Build from what `facts` gave, with weights drawn anew, instead of from the folder.

        Weights of the checkpoint that holds the facts are to be loaded afterwards.
        """
        if facts:
            self._recall = str(facts["config"])
            self.pooling, self.max_length = facts["pooling"], facts["max_length"]

    def load_tokenizer(self) -> Any:
        """The tokenizer of the model.

        Raises:
            ValueError: neither a model folder nor a hub id that can be loaded.
        """
        from transformers import AutoTokenizer

        return self._load(AutoTokenizer)

    def train_tokenizer(self, texts: Iterable[str]) -> Any:
        """Refused: a pretrained model has its own vocabulary."""
        raise ValueError("model=pretrained brings its own tokenizer")

    def build(self, tokenizer: Any, *, attention: Any = None) -> TransformerEncoder:
        """The encoder with its pretrained weights.

        Args:
            tokenizer: the model's own.
            attention: a scaling of ``kexue_pl.attention`` to put into it, None for its own.

        Raises:
            ValueError: damaged files, or a tokenizer of another model.
        """
        body = self._load_body() if self._recall is None else _rebuilt(self._recall)
        rows = body.get_input_embeddings().num_embeddings
        check_vocabulary(tokenizer, rows, key=f"model.path={self.path}")
        if getattr(body, "pooler", None) is not None:
            # Never read here; a trained but unused part would break data parallelism.
            body.pooler.requires_grad_(False)
        if attention is not None:
            from kexue_pl.attention import install

            install(body, attention)
        body.train()  # loaded in evaluation mode, which would leave its dropout off for good
        self._config = body.config.to_json_string(use_diff=False)
        limits = (self.max_length, _positions(body.config), tokenizer.model_max_length)
        most = min(limit for limit in limits if limit is not None)
        return TransformerEncoder(
            body.float(), max_length=most, first_last=self.pooling == "first_last_mean"
        )

    def _load_body(self) -> Any:
        from transformers import AutoConfig, AutoModel

        config = self._load(AutoConfig)
        if self.dropout is not None:
            config.hidden_dropout_prob = config.attention_probs_dropout_prob = self.dropout
        return self._load(AutoModel, config=config)

    def _load(self, factory: Any, **options: Any) -> Any:
        return load_pretrained(factory, self.folder, revision=self.revision, **options)


def _rebuilt(config: str) -> Any:
    """A model of this configuration, its weights drawn anew."""
    from transformers import AutoConfig, AutoModel

    return AutoModel.from_config(AutoConfig.for_model(**json.loads(config)))


def _positions(config: Any) -> int | None:
    """Most tokens that the position embeddings allow; RoBERTa's begin behind the padding index."""
    size = getattr(config, "max_position_embeddings", None)
    if size is None:
        return None
    shifted = getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert")
    return int(size) - (int(config.pad_token_id) + 1 if shifted else 0)


def _sentence_transformers(folder: Path) -> dict[str, Any]:
    """What a sentence-transformers folder says of itself; {} for another folder.

    Raises:
        ValueError: a module after the pooling that is not Normalize, such as Dense.
    """
    if not (folder / "modules.json").is_file():
        return {}
    found: dict[str, Any] = {}
    modules = read_json_file(folder / "modules.json", key=f"model.path={folder}")
    for module in modules if isinstance(modules, list) else [modules]:
        if not isinstance(module, dict) or not {"type", "path"} <= module.keys():
            raise ValueError(f"model.path={folder}: modules.json is not a list of type and path")
        name = str(module["type"]).rpartition(".")[2]
        path = inside(folder, str(module["path"]), key="model.path")
        if name == "Transformer":
            found["folder"] = path
            settings = path / "sentence_bert_config.json"
            if settings.is_file():
                values = read_json_file(settings, key=f"model.path={folder}")
                found["max_length"] = values.get("max_seq_length")
        elif name == "Pooling":
            found["pooling"] = _pooling(
                read_json_file(path / "config.json", key=f"model.path={folder}")
            )
        elif name != "Normalize":
            raise ValueError(
                f"model.path={folder}: the module {name} of a sentence-transformers folder is not "
                "supported; Transformer, Pooling and Normalize are"
            )
    return found


def _pooling(settings: dict[str, Any]) -> str:
    mode = settings.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else list(mode or [])
    modes += [name for key, name in _ST_POOLING.items() if settings.get(key)]
    if len(modes) != 1 or modes[0] not in _ST_POOLING.values():
        raise ValueError(
            f"a sentence-transformers folder with pooling {settings}: set model.pooling to one of "
            "cls, mean, max"
        )
    return str(modes[0])
