"""A folder with an ONNX file, for runtimes without torch."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_pl.export.model_card import model_card
from kexue_pl.models.pair_model import PairModel
from kexue_pl.predict.restore import Restored
from kexue_pl.run.errors import RunError

__all__ = ["export_onnx"]

_SIDES = ("left_ids", "left_mask", "right_ids", "right_mask")


class _Embedding(nn.Module):
    """Texts to unit vectors."""

    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    output = "sentence_embedding"

    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return F.normalize(self.model.embed(input_ids, attention_mask), dim=-1)


class _Joined(_Embedding):
    """Pairs in one sequence to logits."""

    inputs = ("input_ids", "attention_mask", "token_type_ids")
    output = "logits"

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> Tensor:
        values = (input_ids, attention_mask, token_type_ids)
        return self.model.logits(dict(zip(self.inputs, values)))


class _Sides(_Embedding):
    """Two texts a pair to logits (aligned static cross-encoder) or to a similarity (late)."""

    inputs = _SIDES

    def __init__(self, model: PairModel) -> None:
        super().__init__(model)
        self.output = "similarity" if model.interaction == "late" else "logits"

    def forward(self, *values: Tensor) -> Tensor:
        batch = dict(zip(_SIDES, values))
        late = self.model.interaction == "late"
        return self.model.similarities(batch) if late else self.model.logits(batch)


def export_onnx(restored: Restored, folder: str | Path) -> Path:
    """Write ``model.onnx``, the tokenizer, a model card, and ``matching.json`` with the threshold.

    A bi-encoder takes texts and gives unit vectors; a cross-encoder takes both texts in one sequence
    and gives logits; late interaction and the static cross-encoder take the two texts side by side.
    Batch and lengths are free.

    Args:
        restored: a task of matching.
        folder: new, or empty.

    Raises:
        RunError: the folder holds files, or onnx or onnxscript is missing.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"output={folder}: not empty; name a new folder")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RunError(f"{error.name} is missing; pip install onnx onnxscript") from error
    model = restored.task.model
    kind = _Embedding if model.interaction == "bi" else (_Joined if model.joined else _Sides)
    wrapped = kind(model).eval()
    folder.mkdir(parents=True, exist_ok=True)
    short_cuts, model.short_cuts = model.short_cuts, False  # they look at the lengths of a batch
    try:
        _write(wrapped, folder / "model.onnx")
    finally:
        model.short_cuts = short_cuts
    restored.tokenizer.save_pretrained(str(folder))
    _describe(restored, wrapped, folder)
    return folder


def _write(wrapped: Any, path: Path) -> None:
    width = 5 + 2 * len(wrapped.inputs)  # unlike the batch, so that neither is taken for a constant
    examples, shapes = [], []
    for name in wrapped.inputs:
        right = name.startswith("right")
        ids = torch.arange(3 * (width + right)).reshape(3, -1) % 4 + 1
        examples.append(ids if name.endswith("ids") and "type" not in name else ids.clamp_max(1))
        length = torch.export.Dim("right_length" if right else "length", min=2, max=100_000)
        shapes.append({0: torch.export.Dim("batch", min=1, max=100_000), 1: length})
    dynamic: Any = (tuple(shapes),) if isinstance(wrapped, _Sides) else tuple(shapes)
    with _silence():
        torch.onnx.export(
            wrapped,
            tuple(examples),
            str(path),
            input_names=list(wrapped.inputs),
            output_names=[wrapped.output],
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
        )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the exporter's progress and its remarks on operators that are not used."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _describe(restored: Restored, wrapped: Any, folder: Path) -> None:
    model, threshold = restored.task.model, float(restored.task.threshold)
    told = {
        "interaction": model.interaction,
        "inputs": list(wrapped.inputs),
        "output": wrapped.output,
        "special_tokens": bool(model.encoder.special_tokens),
        "max_length": model.encoder.max_length,
        "threshold": None if math.isnan(threshold) else threshold,
    }
    text = json.dumps(told, indent=2) + "\n"
    (folder / "matching.json").write_text(text, encoding="utf-8")
    (folder / "README.md").write_text(model_card(restored, onnx=told), encoding="utf-8")
