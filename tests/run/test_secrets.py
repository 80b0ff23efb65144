"""A secret in the environment reaches no byte that a run writes."""

from __future__ import annotations

from pathlib import Path

from tests.support.cli import tiny, train

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


def test_a_secret_on_the_command_line_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for word in (
        f"+logger.wandb.api_key={CANARY}",
        f"+hf_token={CANARY}",
        f"++data.password={CANARY}",
    ):
        done = train(*"paths.output_dir=run", word, cwd=tmp_path)
        assert done.code == 1
        assert "secret" in done.err
        assert CANARY not in done.err + done.out
    assert not list(tmp_path.iterdir())
