"""The wheel, installed in an environment of its own, trains from another folder with no network."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_settings_and_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "kexue_pl/conf/train.yaml",
        "kexue_pl/py.typed",
        "kexue_pl/conf/loss/cosent.yaml",
    } <= names
    assert any(name.startswith("kexue_pl/data/world/") and name.endswith(".tsv") for name in names)
    assert not any("tests/" in name or name.endswith(".ckpt") for name in names)


@pytest.mark.slow
def test_wheel_trains_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    # Dependencies come from the environment of the tests; our package only from the wheel.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "-q"]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-index", str(wheel)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {
        "PATH": "/usr/bin:/bin",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
    }
    words = ["task=matching", "debug=fdr", "paths.output_dir=run"]
    done = subprocess.run(
        [str(home / "bin" / "kexue-train"), *words],
        cwd=elsewhere,
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((elsewhere / "run" / "summary.json").read_text())["status"] == "completed"
    where = subprocess.run(
        [str(home / "bin" / "python"), "-c", "import kexue_pl; print(kexue_pl.__file__)"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
    )
    assert str(home) in where.stdout
