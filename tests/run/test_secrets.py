"""A secret in the environment reaches no byte that a run writes."""

from __future__ import annotations

from pathlib import Path

from tests.support.cli import ROOT, Command, tiny, train

CANARY = "canary-5f1d7c0a9e"


def test_no_secret_is_written(tmp_path: Path) -> None:
    env = {"HF_TOKEN": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY, "WANDB_MODE": "offline"}
    words = tiny("paths.output_dir=run", "logger=wandb", "trainer.max_epochs=1", "tags=[a]")
    done = train(*words, cwd=tmp_path, env=env | {"WANDB_API_KEY": CANARY * 4})
    assert done.code == 0, done.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    leaks = [str(path) for path in files if CANARY.encode() in path.read_bytes()]
    assert not leaks
    assert CANARY not in done.out + done.err


def test_no_secret_is_written_by_a_sweep_a_failure_and_an_export(tmp_path: Path) -> None:
    env = dict.fromkeys(("HF_TOKEN", "WANDB_API_KEY", "MY_SECRET"), CANARY)
    env["WANDB_API_KEY"] = CANARY * 4
    sweep = train("-m", *tiny("seed=0,1", "paths.sweep_dir=sweep", "trainer.max_epochs=1"),
                  cwd=tmp_path, env=env)  # fmt: skip
    assert sweep.code == 0, sweep.err
    failed = train(*tiny("paths.output_dir=failed", "data.nan_row=0", "data.rows=16",
                         "callbacks.nonfinite_guard.limit=1"), cwd=tmp_path, env=env)  # fmt: skip
    assert failed.code == 1
    for entry, words in (
        ("tests.run.test_secrets.report", [str(tmp_path / "sweep")]),
        ("kexue_pl.predict.cli.main", ["checkpoint=sweep", "input=x", "output=y"]),
    ):
        Command(*words, cwd=tmp_path, env=env, entry=entry).wait()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [str(path) for path in files if CANARY.encode() in path.read_bytes()]
    assert CANARY not in sweep.out + sweep.err + failed.out + failed.err


def report() -> None:
    """The report of a sweep, as its script makes it."""
    import runpy

    runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")


def test_an_interpolation_of_the_environment_is_no_way_around(tmp_path: Path) -> None:
    """A value that names a secret variable is refused; one in a key that is none would be written."""
    for word in ("+tags2=${oc.env:WANDB_API_KEY}", "tags=['${oc.env:HF_TOKEN}']"):
        done = train(*tiny("paths.output_dir=run", word), cwd=tmp_path,
                     env={"WANDB_API_KEY": CANARY, "HF_TOKEN": CANARY})  # fmt: skip
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        leaks = [str(path) for path in files if CANARY.encode() in path.read_bytes()]
        assert not leaks and CANARY not in done.out + done.err
        assert done.code == 1


def test_a_secret_on_the_command_line_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for word in (
        f"+logger.wandb.api_key={CANARY}",
        f"+hf_token={CANARY}",
        f"++data.password={CANARY}",
    ):
        done = train("paths.output_dir=run", word, cwd=tmp_path)
        assert done.code == 1
        assert "secret" in done.err
        assert CANARY not in done.err + done.out
    assert not list(tmp_path.iterdir())
