"""What an exported model says of itself."""

from __future__ import annotations

import json
import math
from typing import Any

from kexue_pl.predict.restore import Restored

__all__ = ["model_card"]

_HEAD = """---
library_name: sentence-transformers
pipeline_tag: {tag}
tags: [sentence-transformers, kexue_pl, {kind}]
---
# A {kind} trained by kexue_pl

| | |
|---|---|
| model | `{model}`, interaction {interaction}, pooling {pooling} |
| loss | `{loss}` |
| data | {data} |
| threshold | {threshold} |
| seed | {seed} |
"""

_BI = """
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this folder")
left, right = model.encode(["first text", "second text"])
print(left @ right)  # a cosine; above the threshold: a match
```
"""

_CROSS = """
```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("this folder")
print(model.predict([("first text", "second text")]))  # raw logits; above the threshold: a match
```
"""


_ONNX = """
```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
session = onnxruntime.InferenceSession("this folder/model.onnx")
# inputs: {inputs}, int64, special tokens: {special}; output: {output}
```
"""


def model_card(restored: Restored, *, onnx: dict[str, Any] | None = None) -> str:
    """Markdown with the settings, the metrics of the run, the threshold, and how to use the model.

    Args:
        restored: a task of matching.
        onnx: what the ONNX file takes and gives; None for a folder of sentence-transformers.
    """
    config, model = restored.config, restored.task.model
    cross = model.interaction == "cross"
    threshold = float(restored.task.threshold)
    head = _HEAD.format(
        tag="text-ranking" if cross else "sentence-similarity",
        kind="cross-encoder" if cross else "bi-encoder",
        model=_name(config["model"]),
        interaction=model.interaction,
        pooling=model.pooling,
        loss=_name(config["loss"]),
        data=_data(config["data"]),
        threshold="none, the labels are graded" if math.isnan(threshold) else f"{threshold:.6f}",
        seed=config["seed"],
    )
    if onnx is not None:
        inputs, special = ", ".join(onnx["inputs"]), "yes" if onnx["special_tokens"] else "no"
        use = _ONNX.format(inputs=inputs, special=special, output=onnx["output"])
        head = head.replace("sentence-transformers", "onnx")
    else:
        use = _CROSS if cross else _BI
    return head + _metrics(restored) + use


def _name(node: dict[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]


def _data(node: dict[str, Any]) -> str:
    # Names of files only: a path says something about the machine it lies on.
    sources = {name: node.get(name) for name in ("train", "valid", "test")}
    shown = [f"{name} {str(v).rpartition('/')[2]}" for name, v in sources.items() if v is not None]
    return f"`{_name(node)}`: {', '.join(shown)}"


def _metrics(restored: Restored) -> str:
    """A table of the test metrics, if the run's summary lies beside the checkpoint."""
    path = restored.path.parent.parent / "summary.json"
    if not path.is_file():
        return ""
    metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    rows = [f"| {k} | {v:.4f} |" for k, v in sorted(metrics.items()) if k.startswith("test/")]
    return "\n".join(["", "| metric | value |", "|---|---|", *rows, ""]) if rows else ""
