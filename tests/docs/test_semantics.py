"""docs/semantics.md: each rule has a number of its own, and a test that names it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = re.compile(r"^## (S\d+) ", re.MULTILINE)
RULE = re.compile(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"\bS\d+\.\d+\b")
RANGE = re.compile(r"\b(S\d+)\.(\d+) to \1\.(\d+)\b")
TODO = "**Not built yet:**"


def rules() -> Iterator[tuple[str, str]]:
    """The number and the text of each rule."""
    _, *parts = SECTION.split((ROOT / "docs" / "semantics.md").read_text())
    for section, text in zip(parts[::2], parts[1::2], strict=True):
        for number, rule in RULE.findall(text):
            yield f"{section}.{number}", rule


def rules_that_tests_name() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text()
        found.update(NAMED.findall(text))
        for section, first, last in RANGE.findall(text):
            found.update(f"{section}.{number}" for number in range(int(first), int(last) + 1))
    return found


def test_each_rule_has_a_number_of_its_own() -> None:
    counts = Counter(number for number, _ in rules())
    assert len(counts) > 70
    assert [number for number, count in counts.items() if count > 1] == []


def test_each_rule_is_named_by_a_test() -> None:
    """Except those that are not built yet."""
    named = rules_that_tests_name()
    assert [number for number, text in rules() if number not in named and not text.startswith(TODO)] == []


def test_tests_name_rules_that_exist() -> None:
    known = {number for number, _ in rules()}
    sections = {number.partition(".")[0] for number in known}
    unknown = {name for name in rules_that_tests_name() - known if name.partition(".")[0] in sections}
    assert sorted(unknown) == []
