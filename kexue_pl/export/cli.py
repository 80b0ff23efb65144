"""`scripts/export.py`: a trained checkpoint for other libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kexue_pl.run.config import config_dir
from kexue_pl.run.errors import RunError
from kexue_pl.run.overrides import quote

__all__ = ["main"]

# What the user can mend: values, files, damaged checkpoints, too little memory.
_MENDABLE = (ValueError, OSError, RuntimeError)


def main(arguments: list[str] | None = None) -> int:
    """Export as ``conf/export.yaml`` says; the exit code. Errors take at most six lines."""
    words = [quote(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    if not words or {"-h", "--help"} & set(words):
        print((config_dir() / "export.yaml").read_text(encoding="utf-8"))
        return 0
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("export", overrides=words)
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise RunError("\n".join(f"{key}: required; set {key}=VALUE" for key in missing))
        print(_export(config))
    except (RunError, HydraException, OmegaConfBaseException, *_MENDABLE) as error:
        print("\n".join(f"error: {error}".splitlines()[:6]), file=sys.stderr)
        return 1
    return 0


def _export(config: Any) -> Path:
    from kexue_pl.export.onnx import export_onnx
    from kexue_pl.export.sentence_transformers import export_sentence_transformers
    from kexue_pl.predict.restore import restore

    formats = {"sentence_transformers": export_sentence_transformers, "onnx": export_onnx}
    if config.format not in formats:
        raise RunError(f"format={config.format}: expected {' or '.join(formats)}")
    return formats[config.format](restore(config.checkpoint), config.output)


if __name__ == "__main__":
    sys.exit(main())
