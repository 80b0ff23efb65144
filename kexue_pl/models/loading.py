"""The one place where folders and hub ids of transformers are opened: no code, no pickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["check_vocabulary", "inside", "load_pretrained", "read_json_file"]


def load_pretrained(factory: Any, path: str, *, key: str = "model.path", **options: Any) -> Any:
    """``factory.from_pretrained(path)`` without code of the folder, weights from safetensors only.

    Args:
        factory: an Auto class of transformers, of a configuration, tokenizer or model.
        path: folder or hub id.
        key: the setting that names it, for the error.
        options: passed on.

    Raises:
        ValueError: nothing there, or damaged files; names the key and the path.
    """
    if "Model" in factory.__name__:
        options["use_safetensors"] = True
    try:
        return factory.from_pretrained(path, trust_remote_code=False, **options)
    except Exception as error:  # the libraries beneath raise bare Exceptions on damaged files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{key}={path!r}: {reason}; give a folder with config.json, model.safetensors and a "
            "tokenizer, or a hub id and a network"
        ) from error


def check_vocabulary(tokenizer: Any, rows: int, *, key: str) -> None:
    """Refuse a tokenizer whose ids the embeddings do not all have, before a step reads them.

    Args:
        tokenizer: a tokenizer of transformers.
        rows: of the embedding layer.
        key: the setting that names the model, for the error.

    Raises:
        ValueError: names both sizes.
    """
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise ValueError(
            f"{key}: the tokenizer has ids up to {highest}, the embeddings of the model {rows} rows; "
            "the two do not belong together, take the tokenizer the model was trained with"
        )


def inside(folder: Path, name: str, *, key: str) -> Path:
    """``folder/name`` if it lies in the folder.

    Raises:
        ValueError: an absolute name, or one that leads out, also through a link.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{key}={folder}: {name!r} leads out of the folder; refused")
    return path


def read_json_file(path: Path, *, key: str) -> Any:
    """The value of a JSON file of a model folder.

    Raises:
        ValueError: no such file, or not JSON; names the key and the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{key}: {path} cannot be read ({reason}); copy the folder again"
        ) from None
