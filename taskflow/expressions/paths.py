"""Finds the fields of events that an expression reads. Rule S12.2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from taskflow.expressions.tree import names_of

if TYPE_CHECKING:
    from lark import Token

    from taskflow.expressions.tree import Node

Path: TypeAlias = tuple[str, ...]

VARIABLES = ("event", "async")


@lru_cache(maxsize=1024)
def paths_of(source: str) -> frozenset[Path]:
    """The paths that a checked expression reads, without their variable: {("data", "total")} for `event.data.total > 5`.

    A path that it computes, as `event.data[event.data.field]` does, counts as the part that is certain.
    """
    from taskflow.expressions.reference import parse

    return frozenset(read_paths(parse(source)))


def read_paths(tree: Node) -> Iterator[Path]:
    # Not recursive, since an expression may be nested deeply.
    pending: list[Node | Token] = [tree]
    while pending:
        node = pending.pop()
        names = names_of(node)
        if names is not None:
            if names[0] in VARIABLES:
                yield tuple(names[1:])
        elif not isinstance(node, str):
            pending.extend(node.children)
