"""A small world of true facts in Chinese, with questions and pairs made from it."""

from __future__ import annotations

from kexue_pl.data.world.facts import KINDS, Fact, entity_kinds, load_facts
from kexue_pl.data.world.pairs import Pair, pairs
from kexue_pl.data.world.questions import Question, questions, split_facts, split_subjects
from kexue_pl.data.world.templates import SPLITS, Templates, load_templates, phrasings

__all__ = [
    "KINDS",
    "SPLITS",
    "Fact",
    "Pair",
    "Question",
    "Templates",
    "entity_kinds",
    "load_facts",
    "load_templates",
    "pairs",
    "phrasings",
    "questions",
    "split_facts",
    "split_subjects",
]
