"""The dashboard has a section an article, whose curves are metrics that runs log."""

from __future__ import annotations

import json
import sys

import pytest

from tests.support.cli import ROOT
from tests.support.scripts import run_script

pytest.importorskip("wandb_workspaces")


def test_sections_and_panels_are_those_of_the_recipes() -> None:
    words = ["scripts/wandb_workspace.py", "me/mine", "--dry-run"]
    done = run_script(*words)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert [name.split()[0] for name in told] == [
        "8802",
        "8823",
        "8860",
        "8870",
        "8896",
        "8907",
        "8968",
    ]
    assert "test/accuracy@1024" in told["8823 从熵不变性看Attention的Scale操作"]


# The package itself still uses validators that its pydantic calls old.
@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
@pytest.mark.filterwarnings("ignore:.*class-based `config` is deprecated")
def test_the_view_can_be_serialised() -> None:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from wandb_workspace import workspace
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    model = workspace("me", "mine")._to_model()
    text = model.spec.model_dump_json(by_alias=True)
    assert "train/weight/.*" in text
    assert "test/spearman" in text


def test_a_project_without_its_entity_is_refused() -> None:
    words = ["scripts/wandb_workspace.py", "mine", "--dry-run"]
    done = run_script(*words)
    assert done.code == 2
    assert "ENTITY/PROJECT" in done.err
