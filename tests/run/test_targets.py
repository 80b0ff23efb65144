"""A configuration can name our parts and classes of known kinds, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kexue_pl.run.build import build
from kexue_pl.run.errors import ConfigError
from kexue_pl.run.targets import resolve

HOSTILE = [
    "os.system",
    "subprocess.Popen",
    "subprocess.check_output",
    "builtins.eval",
    "builtins.exec",
    "builtins.open",
    "builtins.__import__",
    "pickle.loads",
    "pickle.load",
    "shutil.rmtree",
    "runpy.run_path",
    "importlib.import_module",
    "torch.load",
    "torch.hub.load",
    "torch.jit.load",
    "torch.serialization.load",
    "torch.utils.model_zoo.load_url",
    "torch.os.system",
    "numpy.load",
    "pandas.read_pickle",
    "joblib.load",
    "setuptools._distutils.spawn.spawn",
    "transformers.AutoModel.from_pretrained",
    "transformers.pipeline",
    "lightning.pytorch.cli.LightningCLI",
    "kexue_pl.run.launch.subprocess.Popen",
    "kexue_pl.run.files.os.system",
    "kexue_pl.run.checkpoint_io.torch.load",
    "torch.optim.AdamW.__init__",
    "code.interact",
    "not a name",
    "",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_hostile_targets_are_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        resolve(target)
    with pytest.raises(ConfigError):
        build({"a": [{"_target_": target, "_partial_": True}]})


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="_args_"):
        build({"_target_": "torch.nn.Linear", "_args_": [1, 2]})


def test_nothing_is_imported_for_an_unknown_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError):
        resolve("evil_module.Thing")
    assert "evil_module" not in sys.modules


def test_known_kinds_are_built() -> None:
    optimizer = build({"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5})
    assert optimizer.keywords == {"lr": 0.5}
    assert build(
        {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3}
    ).weight.shape == (3, 2)


def test_own_packages_by_the_environment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEXUE_PL_ALLOW_TARGETS", raising=False)
    with pytest.raises(ConfigError, match="KEXUE_PL_ALLOW_TARGETS"):
        resolve("tests.support.tiny.TinyTask")
    monkeypatch.setenv("KEXUE_PL_ALLOW_TARGETS", "tests")
    assert resolve("tests.support.tiny.TinyTask").__name__ == "TinyTask"
