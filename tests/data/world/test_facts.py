from __future__ import annotations

import unicodedata
from collections import Counter

from kexue_pl.data.world import KINDS, entity_kinds, load_facts


def test_the_world_is_large_enough() -> None:
    facts = load_facts()
    assert len(facts) >= 2000
    assert len({(fact.kind, fact.subject) for fact in facts}) >= 300


def test_one_object_for_a_subject_and_predicate() -> None:
    counts = Counter((fact.subject, fact.predicate) for fact in load_facts())
    assert [key for key, count in counts.items() if count > 1] == []


def test_cells_are_clean_text() -> None:
    for fact in load_facts():
        for cell in (fact.subject, fact.predicate, fact.object):
            assert cell and cell == cell.strip() == unicodedata.normalize("NFC", cell)
            assert "|" not in cell and "\t" not in cell and cell != "-"


def test_every_kind_has_subjects() -> None:
    kinds = entity_kinds()
    assert set(kinds) == set(KINDS.values())
    assert min(len(subjects) for subjects in kinds.values()) >= 8


def test_facts_known_by_heart() -> None:
    answers = {(fact.subject, fact.predicate): fact.object for fact in load_facts()}
    assert answers["铁", "原子序数"] == "26" and answers["铁", "所在族"] == "第8族"
    assert answers["溴", "常温状态"] == "液体" and answers["铀", "元素符号"] == "U"
    assert answers["钨", "所在族"] == "第6族" and answers["碘", "元素类别"] == "卤素"
    assert answers["澳大利亚", "首都"] == "堪培拉"
    assert answers["冬至", "太阳黄经"] == "270度"
    assert answers["生肖鼠", "前一个"] == "生肖猪"
    assert answers["红楼梦", "作者"] == "曹雪芹"


def test_relations_before_and_after_are_inverse() -> None:
    answers = {(fact.subject, fact.predicate): fact.object for fact in load_facts()}
    for fact in load_facts():
        if fact.predicate == "后一个":
            assert answers[fact.object, "前一个"] == fact.subject
