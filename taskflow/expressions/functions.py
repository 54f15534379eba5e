"""CEL's functions over plain JSON values. They raise the same errors as `operators`.

As in cel-python, null counts as empty in size() and as 0 in int() and double(), and string() gives "True" and "False" for bools.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import trunc
from types import MappingProxyType
from typing import Any

from taskflow.expressions.operators import Unsure, whole

MAX_PATTERN = 1_000  # characters
MAX_PATTERN_BYTES = 1 << 20  # memory of a compiled pattern with its caches; 128 patterns are kept


def size(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, (str, list, dict)):
        return len(value)
    raise refused("size", value)


def starts_with(text: Any, part: Any) -> bool:
    if type(text) is str and type(part) is str:
        return text.startswith(part)
    raise refused("startsWith", text, part)


def ends_with(text: Any, part: Any) -> bool:
    if type(text) is str and type(part) is str:
        return text.endswith(part)
    raise refused("endsWith", text, part)


def contains(text: Any, part: Any) -> bool:
    if type(text) is str and type(part) is str:
        return part in text
    if isinstance(text, (list, dict)):
        raise Unsure
    raise refused("contains", text, part)


def matches(text: Any, pattern: Any) -> bool:
    """Whether RE2 finds `pattern` in `text`."""
    if type(text) is str and type(pattern) is str:
        return finder(pattern)(text) is not None
    raise refused("matches", text, pattern)


@lru_cache(maxsize=128)
def finder(pattern: str) -> Callable[[str], Any]:
    """A function that searches a text for `pattern`, and returns None if it isn't there. Raises ValueError for a wrong pattern.

    RE2 takes a time that is linear in the text. Patterns may come from events too, so their length and memory are bounded.
    """
    import re2

    if len(pattern) > MAX_PATTERN:
        raise ValueError(
            f"matches() takes a pattern of at most {MAX_PATTERN:,} characters, got {len(pattern):,}"
        )
    options = re2.Options()
    options.log_errors = False  # RE2 would write them to stderr
    options.max_mem = MAX_PATTERN_BYTES
    try:
        found: Callable[[str], Any] = re2.compile(pattern, options).search
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"matches() has a wrong pattern: {text}") from error
    return found


def to_string(value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise Unsure
    return str(value)


def to_int(value: Any) -> int:
    """int(): doubles are cut towards zero; text is read as decimal, or as hexadecimal after 0x."""
    if value is None:
        return 0
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            raise ValueError("infinity is no integer")
        return whole(trunc(value))
    if isinstance(value, str):
        if value[:2] in ("0x", "0X"):
            return whole(int(value[2:], 16))
        if value[:3] in ("-0x", "-0X"):
            return whole(-int(value[3:], 16))
        return whole(int(value))
    if isinstance(value, int):
        return whole(int(value))
    raise refused("int", value)


def to_double(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, (int, float, str)):
        return float(value)
    raise refused("double", value)


def refused(name: str, *values: Any) -> TypeError:
    return TypeError(f"{name}() can't take {' and '.join(type(value).__name__ for value in values)}")


FUNCTIONS: MappingProxyType[str, tuple[int, Callable[..., Any]]] = MappingProxyType(
    {
        "size": (1, size),
        "startsWith": (2, starts_with),
        "endsWith": (2, ends_with),
        "contains": (2, contains),
        "matches": (2, matches),
        "string": (1, to_string),
        "int": (1, to_int),
        "double": (1, to_double),
    }
)
"""Name -> how many values the function takes, and the function. `text.contains(part)` and `contains(text, part)` are the same."""
