"""The page of library use holds complete programs, one an article, of about ten lines; all are run."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import pytest
import torch

from tests.docs.commands import ROOT, blocks

PAGE = "docs/library.md"
ARTICLES = re.findall(r"^## .*\((\d+)\)$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
PROGRAMS = dict(zip(ARTICLES, blocks(PAGE, "python"), strict=True))


def ran(article: str) -> tuple[dict[str, Any], str]:
    """Names a program leaves behind and what it printed."""
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(compile(PROGRAMS[article], f"{PAGE} {article}", "exec"), names)
    return names, told.getvalue()


def test_one_program_for_each_article() -> None:
    expected = ["8796", "8802", "8823", "8860", "8870", "8896", "8907", "8968"]
    assert sorted(PROGRAMS) == expected
    assert all(len(text.splitlines()) <= 14 for text in PROGRAMS.values())


@pytest.mark.parametrize("article", ARTICLES)
def test_program_prints(article: str) -> None:
    assert ran(article)[1].strip()


def test_what_the_page_says_of_their_results() -> None:
    names, _ = ran("8870")
    parts = names["weights"] * names["losses"].detach()
    torch.testing.assert_close(parts, parts.mean().expand(3))
    names, _ = ran("8802")
    assert names["index"].values(names["key"][:-1]) in (["a"], ["b"])
    names, _ = ran("8968")
    assert names["attached"].readings()["scale"] > 10 and names["loss"].item() < 1e-3
    names, _ = ran("8796")
    assert bool((names["bound"].lower <= names["bound"].upper).all())
