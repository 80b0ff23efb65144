"""Errors that are shown to the user as they are: short, with the key or the file at fault."""

from __future__ import annotations

__all__ = ["ConfigError", "Interrupted", "RunError"]


class RunError(Exception):
    """A run cannot go on; the text says why and what mends it."""


class ConfigError(RunError):
    """All mistakes of a configuration at once.

    >>> print(ConfigError(["seed: must be an integer", "model.dmi: unknown"]))
    seed: must be an integer
    model.dmi: unknown
    """

    def __init__(self, mistakes: list[str], shown: int = 5) -> None:
        self.mistakes = mistakes
        more = len(mistakes) - shown
        lines = mistakes[:shown] + ([f"and {more} more"] if more > 0 else [])
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[str]]]:
        return ConfigError, (self.mistakes,)


class Interrupted(BaseException):
    """A signal asked the run to stop; its state was saved. `code` is the exit code (128 + signal)."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum, self.code = signum, 128 + signum
