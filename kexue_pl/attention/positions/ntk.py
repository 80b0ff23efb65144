"""NTK-aware rotary positions: a longer base for longer sequences."""

from __future__ import annotations

from kexue_pl.attention.positions.rope import RoPE


class NTK(RoPE):
    """RoPE whose base grows as ``base (n / train_length)^(d / (d - 2))`` beyond the training
    length.

    The slowest pair then covers n tokens with the angles it saw in training and the fastest pair is
    hardly changed; kexue.fm/archives/9675. n is the number of keys of the call.

    Args:
        train_length: tokens of a training row, at least 1.
        base: base up to the training length.
        interleaved: as in :class:`RoPE`.

    >>> NTK(train_length=64).base_at(64, d=4)
    10000.0
    >>> NTK(train_length=64).base_at(128, d=4)  # times 2^(4/2)
    40000.0
    """

    def __init__(
        self, train_length: int = 512, base: float = 10_000.0, interleaved: bool = True
    ) -> None:
        super().__init__(base=base, interleaved=interleaved)
        if train_length < 1:
            raise ValueError(
                f"NTK: train_length={train_length} must be at least 1; set data.train_length"
            )
        self.train_length = train_length

    def base_at(self, length: int, d: int) -> float:
        """The stretched base for a sequence of ``length`` keys."""
        stretch = max(1.0, length / self.train_length)
        return float(self.base * stretch ** (d / max(d - 2, 1)))
