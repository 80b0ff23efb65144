"""Compute a random function several times with the same random numbers (the same dropout masks)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Replay:
    """Remember the random state of construction; every ``again`` block starts from it and leaves no
    trace.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> replay = Replay()
        >>> first = torch.rand(2)
        >>> with replay.again():
        ...     second = torch.rand(2)
        >>> torch.equal(first, second)
        True
    """

    def __init__(self) -> None:
        self._devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        self._cpu = torch.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(device) for device in self._devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Restart the generators inside the block; afterwards they continue as if it never ran."""
        with torch.random.fork_rng(devices=self._devices):
            torch.set_rng_state(self._cpu)
            for device, state in zip(self._devices, self._cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
