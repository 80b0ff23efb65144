from __future__ import annotations

import pytest

from kexue_pl.data.world import (
    SPLITS,
    load_facts,
    load_templates,
    phrasings,
    questions,
    split_facts,
    split_subjects,
)


def test_templates_cover_all_predicates_and_name_the_subject() -> None:
    assert set(load_templates()) == {fact.predicate for fact in load_facts()}
    for predicate in load_templates():
        for split in SPLITS:
            options = phrasings(predicate, split)
            assert len(set(options)) == len(options) >= 3
            assert all(option.count("{s}") == 1 and "{n}" not in option for option in options)


def test_wording_of_the_test_is_unseen() -> None:
    for predicate in load_templates():
        assert not set(phrasings(predicate, "test")) & set(phrasings(predicate, "train"))
        assert not set(phrasings(predicate, "test")) & set(phrasings(predicate, "valid"))


def test_subjects_are_divided() -> None:
    parts = [split_subjects(3, split) for split in SPLITS]
    assert all(parts) and sum(map(len, parts)) == len(set.union(*parts))
    assert split_subjects(3, "train") != split_subjects(4, "train")


def test_questions_are_answered_by_facts() -> None:
    facts = {(f.subject, f.predicate, f.object, f.kind) for f in load_facts()}
    rows = questions(1, "valid", per_fact=3)
    assert all((r.subject, r.predicate, r.object, r.kind) in facts for r in rows)
    assert all(r.subject in r.question for r in rows)
    assert len(rows) == 3 * len(split_facts(1, "valid"))
    assert len({(r.question, r.kind) for r in rows}) == len(rows)


def test_the_seed_decides() -> None:
    assert questions(0, "train") == questions(0, "train") != questions(1, "train")


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"split='dev': expected one of train, valid, test"):
        questions(0, "dev")
    with pytest.raises(ValueError, match=r"per_fact=0"):
        questions(0, "test", per_fact=0)
