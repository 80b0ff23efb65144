"""Retrieval as constrained generation: a prefix index, batched beam search, segment scores."""

from kexue_pl.retrieval.beam_search import Hypothesis, constrained_beam_search
from kexue_pl.retrieval.beam_state import BeamState, Children
from kexue_pl.retrieval.choices import Choices
from kexue_pl.retrieval.decoder import StepDecoder
from kexue_pl.retrieval.encode import character_encode, fingerprint, tokenizer_encode
from kexue_pl.retrieval.free_search import free_beam_search
from kexue_pl.retrieval.index_builder import build_index
from kexue_pl.retrieval.index_files import IndexFileError
from kexue_pl.retrieval.lexical_training import SegmentScorer, train_segment_scorer
from kexue_pl.retrieval.logits_processor import PrefixIndexLogitsProcessor
from kexue_pl.retrieval.lookahead import Lookahead
from kexue_pl.retrieval.meaning import join_subject, split_subject
from kexue_pl.retrieval.names import find_names
from kexue_pl.retrieval.prefix_index import IndexInfo, PrefixIndex
from kexue_pl.retrieval.rule import rule
from kexue_pl.retrieval.segment_search import SegmentSearch
from kexue_pl.retrieval.strings import Strings
from kexue_pl.retrieval.triples import index_file
from kexue_pl.retrieval.tuning import Weights

__all__ = [
    "BeamState",
    "Children",
    "Choices",
    "Hypothesis",
    "Lookahead",
    "PrefixIndexLogitsProcessor",
    "StepDecoder",
    "constrained_beam_search",
    "free_beam_search",
    "IndexFileError",
    "IndexInfo",
    "PrefixIndex",
    "SegmentScorer",
    "SegmentSearch",
    "Strings",
    "Weights",
    "find_names",
    "rule",
    "train_segment_scorer",
    "build_index",
    "character_encode",
    "fingerprint",
    "index_file",
    "join_subject",
    "split_subject",
    "tokenizer_encode",
]
