"""A configuration can name our parts and classes of known kinds, and nothing else."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest

from kexue_pl.run.build import build
from kexue_pl.run.errors import ConfigError
from kexue_pl.run.targets import resolve
from tests.support.cli import train

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


BURIED: list[tuple[str, Any]] = [
    ("in a list", {"a": [{"b": {"_target_": "os.system", "command": "x"}}]}),
    ("as an argument", {"_target_": "torch.nn.ReLU", "inplace": {"_target_": "os.getcwd"}}),
    ("in a partial", {"_target_": "torch.optim.SGD", "_partial_": True,
                      "lr": {"_target_": "builtins.eval", "source": "1"}}),
    ("a partial of it", {"_target_": "subprocess.run", "_partial_": True}),
    ("functools.partial", {"_target_": "functools.partial", "func": "os.system"}),
    ("operator.methodcaller", {"_target_": "operator.methodcaller", "name": "system"}),
    ("a list for a name", {"_target_": ["os", "system"]}),
    ("a dict for a name", {"_target_": {"_target_": "os.system"}}),
    ("_args_", {"_target_": "torch.nn.Linear", "_args_": [1, 2]}),
    ("_convert_", {"_target_": "torch.nn.ReLU", "_convert_": "all"}),
    ("_recursive_", {"_target_": "torch.nn.ReLU", "_recursive_": False}),
    ("hydra's own", {"_target_": "hydra.utils.instantiate", "config": {}}),
    ("hydra get_method", {"_target_": "hydra.utils.get_method", "path": "os.system"}),
    ("omegaconf", {"_target_": "omegaconf.OmegaConf.load", "file_": "x"}),
    ("a dunder", {"_target_": "torch.nn.Module.__class__"}),
    ("a module of ours that imports it", {"_target_": "kexue_pl.run.launch.os.system"}),
    ("a class of ours imported from elsewhere", {"_target_": "kexue_pl.run.launch.Path"}),
    ("a function of torch", {"_target_": "torch.compile"}),
    ("spaces", {"_target_": " torch.nn.ReLU"}),
    ("a newline", {"_target_": "torch.nn.ReLU\n"}),
    ("a lookalike root", {"_target_": "tоrch.nn.ReLU"}),
    ("a longer root", {"_target_": "torchx.nn.ReLU"}),
    ("relative", {"_target_": ".os.system"}),
    ("another case", {"_target_": "OS.system"}),
    ("a callback that runs a program", {"_target_": "lightning.pytorch.callbacks.os.system"}),
]  # fmt: skip


@pytest.mark.parametrize("case", BURIED, ids=lambda case: case[0])
def test_buried_targets_are_refused(case: tuple[str, Any]) -> None:
    with pytest.raises(ConfigError):
        build(case[1])


TRICKS = {
    "an interpolation to a target": ("+x={_target_: '${y}'}", "+y=os.system"),
    "a target made of parts": ("+task.name2={_target_: '${.a}${.b}', a: os., b: system}",),
    "a resolver": ("+x={_target_: '${oc.env:HOME}'}",),
    "oc.create": ('+x="${oc.create:{_target_: os.system}}"',),
    "the target of the task": ("task._target_=os.system",),
    "the target of the data": ("data._target_=subprocess.Popen",),
    "a callback": ("+callbacks.x={_target_: os.system, command: touch hacked}",),
    "a logger": ("+logger.x={_target_: builtins.open, file: hacked, mode: w}",),
    "an optimizer": ("optimizer._target_=torch.load", "+optimizer.f=x"),
    "hydra's callbacks": ("+hydra.callbacks.x._target_=os.system",),
}


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_of_the_command_line(tmp_path: Path, name: str) -> None:
    """Refused in a few lines, and nothing was run: no file but those of a failed run."""
    done = train("task=matching", "paths.output_dir=run", *TRICKS[name], cwd=tmp_path)
    assert done.code == 1, (done.out, done.err)
    assert "Traceback" not in done.err and len(done.err.splitlines()) <= 6, done.err
    assert not list(tmp_path.rglob("hacked"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_code_of_a_folder_is_never_trusted() -> None:
    """No file of the package asks for it, and no setting can."""
    root = Path(__file__).resolve().parents[2]
    for path in [*(root / "kexue_pl").rglob("*.py"), *(root / "scripts").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "trust_remote_code=True" not in text, path
        calls = [node.func.attr for node in ast.walk(ast.parse(text))
                 if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]  # fmt: skip
        assert "from_pretrained" not in calls or path.name == "loading.py", path
    for path in (root / "conf").rglob("*.yaml"):
        assert "trust_remote_code" not in path.read_text(encoding="utf-8"), path


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
