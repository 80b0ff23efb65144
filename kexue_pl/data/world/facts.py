"""The embedded facts: subject, predicate, object and the kind of the subject."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

KINDS: dict[str, str] = {
    "elements": "化学元素",
    "countries": "国家",
    "provinces": "省级行政区",
    "states": "美国州",
    "planets": "行星",
    "dynasties": "朝代",
    "works": "作品",
    "writers": "作家",
    "solar_terms": "节气",
    "zodiac_animals": "生肖",
    "stems_branches": "干支",
    "constellations": "星座",
    "units": "计量单位",
    "mountains": "山",
    "rivers": "河流",
    "scientists": "科学家",
    "universities": "大学",
}
"""File stem under ``triples/`` and the Chinese name of the kind of its subjects."""


@dataclass(frozen=True, order=True)
class Fact:
    """One true statement: ``subject`` has ``object`` as its ``predicate``.

    Args:
        subject: an entity, unique within its kind.
        predicate: a relation; a subject has at most one object for it.
        object: the answer, as text.
        kind: the kind of the subject, one of the values of :data:`KINDS`.
    """

    subject: str
    predicate: str
    object: str
    kind: str


@lru_cache(maxsize=1)
def _facts() -> tuple[Fact, ...]:
    folder = files(__package__) / "triples"
    facts: list[Fact] = []
    for stem, kind in KINDS.items():
        for line in (folder / f"{stem}.tsv").read_text(encoding="utf-8").splitlines():
            subject, predicate, value = line.split("\t")
            facts.append(Fact(subject, predicate, value, kind))
    return tuple(facts)


def load_facts() -> list[Fact]:
    """All facts in a fixed order: kinds as in :data:`KINDS`, then as written in the files.

    >>> facts = load_facts()
    >>> len(facts) > 3000 and len({fact.subject for fact in facts}) > 800
    True
    >>> facts[0]
    Fact(subject='氢', predicate='元素符号', object='H', kind='化学元素')
    """
    return list(_facts())


def entity_kinds() -> dict[str, list[str]]:
    """Kind -> its subjects, each once, in the order of the files.

    >>> entity_kinds()["行星"][2]
    '地球'
    """
    kinds: dict[str, dict[str, None]] = {}
    for fact in _facts():
        kinds.setdefault(fact.kind, {})[fact.subject] = None
    return {kind: list(subjects) for kind, subjects in kinds.items()}
