"""Questions a second: our constrained beam search against ``transformers.generate``.

    python scripts/bench/decoding.py --questions 96

The same encoder-decoder (weights drawn anew), the same base (the embedded facts), 32 questions at a time,
5 beams, scores normalised over the allowed tokens, no length penalty. ``generate`` is given
``prefix_allowed_tokens_fn`` over nested dicts, as GENRE and most users do, and our logits processor. Prints
how many best answers agree, and the share of our time that the index takes. One thread, processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch

from kexue_pl.data.world_questions import WorldQuestions
from kexue_pl.models.encoder_decoder import EncoderDecoder
from kexue_pl.retrieval import PrefixIndex, PrefixIndexLogitsProcessor, constrained_beam_search

BATCH, BEAMS = 32, 5
SIZES: dict[str, dict[str, int]] = {
    "small (2 + 2 layers, 128)": {"hidden_size": 128, "layers": 2, "heads": 4},
    "base (6 + 6 layers, 768)": {"hidden_size": 768, "layers": 6, "heads": 12},
}
Keys = list[tuple[int, ...]]


class Timed:
    """A prefix index that counts the time spent in it."""

    METHODS = ("start", "allowed", "choose", "single", "leaves", "key")

    def __init__(self, index: PrefixIndex) -> None:
        self.index, self.seconds, self.inside = index, 0.0, False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.index, name)
        if name not in self.METHODS:
            return found

        def timed(*args: Any) -> Any:
            start = time.thread_time()
            out = found(*args)
            self.seconds += time.thread_time() - start
            return out

        return timed


class Search:
    """The three ways to decode one batch of questions; each gives the best key of every question."""

    def __init__(self, data: WorldQuestions, model: Any, index: PrefixIndex) -> None:
        self.data, self.model, self.index = data, model, index
        self.timed: Any = Timed(index)
        self.end = int(data.tokenizer.mask_token_id)
        self.longest = max(len(index.key(row)) for row in range(len(index))) + 2
        self.tree: dict[int, Any] = {}
        for row in range(len(index)):
            node = self.tree
            for token in [*index.key(row), self.end]:
                node = node.setdefault(token, {})

    def ours(self, texts: list[str]) -> Keys:
        """Batched over questions, forced paths skipped."""
        ids, mask = self.data.sources(texts)
        decoder = self.model.step_decoder(ids, mask)
        found = constrained_beam_search(self.timed, decoder, len(texts), beams=BEAMS)
        return [hypotheses[0].tokens for hypotheses in found]

    def prefix_function(self, texts: list[str]) -> Keys:
        """``prefix_allowed_tokens_fn`` over nested dicts."""

        def allowed(batch: int, prefix: torch.Tensor) -> list[int]:
            node = self.tree
            for token in prefix[1:].tolist():
                node = node.get(token, {})
            return list(node) or [self.end]

        return self._generate(texts, prefix_allowed_tokens_fn=allowed)

    def processor(self, texts: list[str]) -> Keys:
        """Our index as a logits processor."""
        processor = PrefixIndexLogitsProcessor(self.index, end=self.end)
        return self._generate(texts, logits_processor=[processor])

    @torch.no_grad()
    def _generate(self, texts: list[str], **options: Any) -> Keys:
        ids, mask = self.data.sources(texts)
        out = self.model.body.generate(
            input_ids=ids, attention_mask=mask, num_beams=BEAMS, max_new_tokens=self.longest,
            eos_token_id=self.end, pad_token_id=0, do_sample=False, length_penalty=0.0,
            early_stopping="never", renormalize_logits=True, **options,
        )  # fmt: skip
        keys = []
        for row in out[:, 1:].tolist():
            keys.append(tuple(row[: row.index(self.end)] if self.end in row else row))
        return keys


def rate(call: Callable[[list[str]], Keys], texts: list[str], timed: Any) -> tuple[float, Keys]:
    """Seconds of processor time of all batches, and the answers."""
    call(texts[:4])
    timed.seconds = 0.0
    start, keys = time.thread_time(), []
    for at in range(0, len(texts), BATCH):
        keys += call(texts[at : at + BATCH])
    return time.thread_time() - start, keys


def compare(data: WorldQuestions, size: dict[str, int], texts: list[str]) -> list[list[str]]:
    """One row a way to decode: questions a second, share of the index, agreement with ours."""
    torch.manual_seed(0)
    model = EncoderDecoder(**size).build(data.tokenizer).eval()  # type: ignore[arg-type]
    search, rows = Search(data, model, data.make_index()), []
    ways = {"ours": search.ours, "generate, prefix_allowed_tokens_fn": search.prefix_function,
            "generate, our logits processor": search.processor}  # fmt: skip
    first: Keys = []
    for name, call in ways.items():
        seconds, keys = rate(call, texts, search.timed)
        first = first or keys
        agree = sum(a == b for a, b in zip(first, keys, strict=True)) / len(keys)
        share = f"{search.timed.seconds / seconds:.1%}" if name == "ours" else ""
        rows.append([name, f"{len(texts) / seconds:.2f}", share, f"{agree:.0%}"])
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--sizes", nargs="+", default=["small", "base"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = WorldQuestions()
    data.setup("fit")
    data.tokenizer = EncoderDecoder().train_tokenizer(data.texts())
    rows = (data.test_set or []) or (data.valid_set or [])
    texts = [str(row["question"]) for row in rows][: given.questions]
    print(f"{len(texts)} questions, {len(data.base)} keys, batch {BATCH}, {BEAMS} beams\n")
    print("| encoder-decoder | decoding | questions/s | in the index | same best answer |")
    print("|---|---|---|---|---|")
    for name, size in SIZES.items():
        if name.split()[0] in given.sizes:
            for cells in compare(data, size, texts):
                print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
