"""Build a prefix index from a TSV, JSONL or Parquet file of triples.

    python scripts/build_index.py BASE.tsv OUT [--tokenizer FOLDER_OR_CHECKPOINT]
    python scripts/build_index.py TITLES.tsv OUT --keys title --value "" --no-meaning

Without --tokenizer a character vocabulary is made from the file and stored in OUT/tokenizer. A
model can
answer only from an index made with its own vocabulary: name its checkpoint
    (outputs/…/checkpoints/best.ckpt).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kexue_pl.retrieval.encode import encoder_of, fingerprint
from kexue_pl.retrieval.key_files import read_blocks
from kexue_pl.retrieval.triples import index_file


def load_tokenizer(source: str | None, path: Path, columns: Sequence[str]) -> Any:
    """Tokenizer of a checkpoint or a folder; a new character vocabulary for None."""
    if source is None:
        from kexue_pl.models.tokenizers import train_tokenizer

        return train_tokenizer(
            _distinct_characters(path, columns), vocab_size=60_000, min_frequency=1
        )
    if source.endswith(".ckpt"):
        from kexue_pl.run.checkpoint_io import read
        from kexue_pl.run.contents import facts_of
        from kexue_pl.run.tokenizer_files import unpack

        return unpack(facts_of(read(Path(source)), Path(source))["tokenizer"])
    from transformers import AutoTokenizer

    from kexue_pl.models.loading import load_pretrained

    return load_pretrained(AutoTokenizer, source, key="--tokenizer")


def _distinct_characters(path: Path, columns: Sequence[str]) -> Iterator[str]:
    """Every character of the key columns, once a block."""
    for block in read_blocks(path, columns):
        for column in block:
            yield "".join(set("".join(column.unique().to_pylist())))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("base", type=Path, help=".tsv (no header), .jsonl or .parquet")
    parser.add_argument("out", type=Path, help="folder of the index")
    parser.add_argument("--tokenizer", help="folder of a tokenizer, or a checkpoint of a run")
    parser.add_argument("--keys", nargs="+", default=["subject", "predicate"], help="key columns")
    parser.add_argument("--value", default="object", help="answer column; '' stores row numbers")
    parser.add_argument("--no-meaning", action="store_true", help="leave brackets in the first key")
    given = parser.parse_args(arguments)
    from tqdm import tqdm

    started = time.process_time()
    columns = [*given.keys, *([given.value] if given.value else [])]
    tokenizer = load_tokenizer(given.tokenizer, given.base, columns)
    with tqdm(unit=" rows", unit_scale=True, desc="reading") as bar:
        index = index_file(
            given.base,
            encoder_of(tokenizer),
            separator=tokenizer.sep_token_id,
            tokenizer=fingerprint(tokenizer),
            keys=given.keys,
            value=given.value or None,
            meaning=not given.no_meaning,
            progress=bar.update,
        )
    index.save(given.out)
    if given.tokenizer is None:
        tokenizer.save_pretrained(given.out / "tokenizer")
    print(
        f"{given.out}: {len(index):,} rows, {index.nbytes() / 1e6:.1f} MB, "
        f"{index.info.merged:,} strings merged by the vocabulary, "
        f"{time.process_time() - started:.1f} s CPU"
    )


if __name__ == "__main__":
    main()
