"""A folder that sentence-transformers loads, with the same outputs."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from kexue_pl.export.model_card import model_card
from kexue_pl.predict.restore import Restored
from kexue_pl.run.errors import RunError

__all__ = ["export_sentence_transformers"]


def export_sentence_transformers(restored: Restored, folder: str | Path) -> Path:
    """Write a bi-encoder for ``SentenceTransformer(folder)``, a cross-encoder for ``CrossEncoder``.

    Weights are safetensors; a model card tells data, metrics and the threshold. Embeddings come out
    normalized; a cross-encoder gives its raw logits.

    Args:
        restored: a task of matching.
        folder: new, or empty.

    Raises:
        RunError: the folder holds files, sentence-transformers is missing, or the model has a part
            that sentence-transformers does not know; the message says which setting avoids it.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"output={folder}: not empty; name a new folder")
    try:
        import sentence_transformers
    except ImportError as error:
        raise RunError(
            "sentence-transformers is missing; pip install 'kexue_pl[export]'"
        ) from error
    _refuse_unknown_parts(restored)
    model = restored.task.model
    if model.interaction == "cross":
        whole = sentence_transformers.CrossEncoder(
            modules=_cross(restored), activation_fn=nn.Identity(), device="cpu"
        )
    else:
        modules = _static(restored) if _is_static(restored) else _bi(restored)
        whole = sentence_transformers.SentenceTransformer(modules=modules, device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    whole.save_pretrained(str(folder), create_model_card=False)
    (folder / "README.md").write_text(model_card(restored), encoding="utf-8")
    return folder


def _is_static(restored: Restored) -> bool:
    return hasattr(restored.task.model.encoder, "table")


def _refuse_unknown_parts(restored: Restored) -> None:
    model, config = restored.task.model, restored.config
    encoder = model.encoder
    reason = None
    if model.interaction == "late":
        reason = "late interaction has no such form; train with model.interaction=bi or cross"
    elif model.pooling == "first_last_mean":
        reason = "model.pooling=first_last_mean is unknown there; use mean, cls or max"
    elif model.match_flag:
        reason = "model.match_flag is unknown there; train with model.match_flag=false"
    elif model.interaction == "cross" and not model.joined:
        reason = "the aligned static cross-encoder is unknown there; use model=small or pretrained"
    elif _is_static(restored) and (encoder.pairs is not None or model.pooling != "mean"):
        reason = "only model=static with model.pooling=mean and model.bigrams=0 has a form there"
    elif config.get("attention") and not config["attention"]["_target_"].endswith(".Standard"):
        reason = "a scaled attention is unknown there; train without attention="
    if reason is not None:
        raise RunError(f"{restored.path}: cannot be exported to sentence-transformers: {reason}")


def _static(restored: Restored) -> list[nn.Module]:
    """The token weights go into the vectors: a weighted mean and a mean differ by a factor."""
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    encoder = restored.task.model.encoder
    weights = encoder.table.weight.detach() * F.softplus(encoder.gain.weight.detach())
    return [StaticEmbedding(restored.tokenizer, embedding_weights=weights.float()), Normalize()]


def _transformer(restored: Restored) -> tuple[nn.Module, nn.Module]:
    """The body and the pooling, as modules of sentence-transformers."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    model = restored.task.model
    with tempfile.TemporaryDirectory() as name:
        model.encoder.body.save_pretrained(name)
        restored.tokenizer.save_pretrained(name)
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # it would report the pooler that is zeroed below
        try:
            body = Transformer(name, max_seq_length=model.encoder.max_length)
        finally:
            logging.disable(level)
    pooler = getattr(body.model, "pooler", None)
    if pooler is not None and getattr(model.encoder.body, "pooler", None) is None:
        # Ours has none; theirs is never read, yet a file should not differ from run to run.
        for parameter in pooler.parameters():
            nn.init.zeros_(parameter)
    return body, Pooling(model.encoder.hidden_size, model.pooling)


def _bi(restored: Restored) -> list[nn.Module]:
    from sentence_transformers.sentence_transformer.modules import Normalize

    return [*_transformer(restored), Normalize()]


def _cross(restored: Restored) -> list[nn.Module]:
    from sentence_transformers.sentence_transformer.modules import Dense

    head: Any = restored.task.model.head
    dense = Dense(
        head.in_features,
        head.out_features,
        activation_function=nn.Identity(),
        module_output_name="scores",
    )
    with torch.no_grad():
        dense.linear.weight.copy_(head.weight)
        dense.linear.bias.copy_(head.bias)
    return [*_transformer(restored), dense]
