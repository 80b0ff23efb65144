"""What is printed at the end of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from kexue_pl.run.record import print_table


def test_brackets_in_paths_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    folder = tmp_path / "1_callbacks=[default,eg_coordinate]"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "a.png").write_bytes(b"")
    print_table(folder, {"test/loss": 0.25, "val/loss": 1.0})
    shown = capsys.readouterr().out
    assert str(folder / "plots" / "a.png") in shown
    # The title above the table is wrapped to its width.
    assert "".join(shown.split()).count("[default,eg_coordinate]") == 2
    assert "0.2500" in shown and "val/loss" not in shown
