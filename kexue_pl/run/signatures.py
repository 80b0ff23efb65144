"""What a target's constructor takes, read from its source where that spares importing torch."""

from __future__ import annotations

import ast
import functools
import inspect
from dataclasses import dataclass
from pathlib import Path

from kexue_pl.run.targets import resolve

__all__ = ["Signature", "signature"]

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Signature:
    """Names of the arguments, those without a default, and whether any other name is taken too."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    open_ended: bool = False


def _from_arguments(node: ast.arguments, bound: bool) -> Signature:
    positional = [*node.posonlyargs, *node.args][1 if bound else 0 :]
    defaults = len(node.defaults)
    needed = [a.arg for a in (positional[: len(positional) - defaults] if defaults else positional)]
    needed += [a.arg for a, d in zip(node.kwonlyargs, node.kw_defaults) if d is None]
    names = [a.arg for a in (*positional, *node.kwonlyargs)]
    return Signature(tuple(names), tuple(needed), node.kwarg is not None)


@functools.cache
def _module(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _from_source(target: str) -> Signature | None:
    """The signature of `kexue_pl.a.b.Name` from the file a/b.py; None where the source cannot tell."""
    parts = target.split(".")
    path = PACKAGE.joinpath(*parts[1:-1]).with_suffix(".py")
    if parts[0] != "kexue_pl" or not path.is_file():
        return None
    for node in _module(path).body:
        if isinstance(node, ast.FunctionDef) and node.name == parts[-1]:
            return _from_arguments(node.args, bound=False)
        if isinstance(node, ast.ClassDef) and node.name == parts[-1]:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    return _from_arguments(member.args, bound=True)
            return None
    return None


def signature(target: str, key: str) -> Signature | None:
    """Arguments of a target; None where nothing can be said (some C functions).

    Raises:
        ConfigError: the target is not allowed or cannot be imported.
    """
    if found := _from_source(target):
        return found
    resolved = resolve(target, key)
    if getattr(getattr(resolved, "__init__", None), "__qualname__", "") == "Module.__init__":
        return Signature((), ())  # a module without a constructor of its own takes nothing
    try:
        parameters = inspect.signature(resolved).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p for p in parameters if p.kind in kinds]
    return Signature(
        tuple(p.name for p in named),
        tuple(p.name for p in named if p.default is p.empty),
        any(p.kind is p.VAR_KEYWORD for p in parameters),
    )
