"""Names that carry their meaning in brackets: ``神门（神门）``."""

from __future__ import annotations

OPEN, CLOSE = "（", "）"


def split_subject(text: str) -> tuple[str, str]:
    """Cut the last balanced bracket group off a name, if it closes the text and a name precedes it.

    The rule of kexue.fm/archives/8802 (from the first bracket to the end) fails on names with an
    inner group; scanning from the right does not.

    Example:
        >>> split_subject("甲（乙）丙（丁）"), split_subject("甲（乙（丙））")
        (('甲（乙）丙', '丁'), ('甲', '乙（丙）'))
        >>> split_subject("（甲）"), split_subject("甲）"), split_subject("")
        (('（甲）', ''), ('甲）', ''), ('', ''))
    """
    if text.endswith(CLOSE):
        depth = 0
        for i in range(len(text) - 1, 0, -1):
            depth += (text[i] == CLOSE) - (text[i] == OPEN)
            if depth == 0:
                return text[:i], text[i + 1 : -1]
    return text, ""


def join_subject(name: str, meaning: str) -> str:
    """Inverse of ``split_subject`` for a non-empty name.

    Example:
        >>> join_subject("龙晶", "游戏"), join_subject("龙晶", "")
        ('龙晶（游戏）', '龙晶')
    """
    return f"{name}{OPEN}{meaning}{CLOSE}" if meaning else name
