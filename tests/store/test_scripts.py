"""The scripts as files: headers, includes, keys, and a snapshot of what the server gets.

When a script has changed on purpose, renew the snapshot and look at its diff: a changed include shows in all that use it.

    python -m tests.store.test_scripts
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from taskflow.redis.scripts import (
    Script,
    expand,
    load_scripts,
    loading_commands,
    split_definitions,
    strip,
)
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.store import Store

LUA = Path(__file__).parents[2] / "taskflow" / "store" / "lua"
SNAPSHOT = Path(__file__).with_name("scripts.snapshot")
RULE = re.compile(r"Rules? S\d+\.\d+")
NAMES = sorted(load_scripts())
WORD = re.compile(r"[A-Za-z_]\w*")


def snapshot_of(scripts: Mapping[str, Script]) -> str:
    """A line a script: name, sha of what the server gets, and its number of lines."""
    rows = [f"{name} {scripts[name].sha} {scripts[name].source.count(chr(10))}" for name in sorted(scripts)]
    return "\n".join(rows) + "\n"


def test_scripts_are_as_in_the_snapshot() -> None:
    """See above for how to renew it."""
    assert SNAPSHOT.read_text() == snapshot_of(load_scripts()), (
        "renew it with: python -m tests.store.test_scripts"
    )


def header_of(name: str) -> list[str]:
    lines = (LUA / f"{name}.lua").read_text().splitlines()
    count = next(
        place for place, line in enumerate(lines) if not line.startswith("--") or line.startswith("--@")
    )
    return lines[:count]


@pytest.mark.parametrize("name", NAMES)
def test_a_header_tells_what_the_script_takes_and_gives(name: str) -> None:
    """What it is for with its rule, KEYS, ARGV numbered from 1, and the reply."""
    header = header_of(name)
    text = "\n".join(header)
    assert header[0].startswith(f"-- {name}: ")
    if name != "check_version":
        assert RULE.search(text), "it names no rule"
    assert "-- KEYS   1 prefix" in header
    argv = re.search(r"^-- ARGV   (.+(?:\n--        .+)*)", text, re.MULTILINE)
    assert argv is not None
    numbers = [int(number) for number in re.findall(r"(?<![\w.])(\d+)(?:\.\.\.)? (?=[\w'])", argv[1])]
    assert numbers[:1] == [1]
    assert re.search(r"^-- Reply  \S", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_reads_all_arguments_that_its_header_numbers(name: str) -> None:
    """The highest ARGV[n] of the code is one of the header's."""
    code = strip((LUA / f"{name}.lua").read_text())
    used = [int(number) for number in re.findall(r"ARGV\[(\d+)\]", code)]
    text = "\n".join(header_of(name))
    told = [int(number) for number in re.findall(r"(?:ARGV  |   |  )\s?(\d+)(?:\.\.\.)? ", text)]
    assert max(used, default=0) <= max(told, default=0), f"ARGV[{max(used)}] is not in the header"


@pytest.mark.parametrize("name", NAMES)
def test_no_script_asks_the_server_for_the_time_or_chance(name: str) -> None:
    """S8.3: `now` is an argument, so that tests can turn the clock, and replicas do the same."""
    source = load_scripts()[name].source
    assert not re.search(r"redis\.call\(\s*'(TIME|RANDOMKEY|SRANDMEMBER|SPOP)'", source, re.IGNORECASE)
    assert "math.random" not in source


@pytest.mark.parametrize("name", NAMES)
def test_every_key_begins_with_the_prefix(name: str) -> None:
    """Else it lies in another cluster slot. Key names are made by includes/keys.lua, or from `prefix` or KEYS[1]."""
    source = load_scripts()[name].source
    keys = re.findall(r"redis\.call\('(?!PUBLISH)[A-Z]+', ([^,)]+)", source)
    for key in keys:
        assert not key.startswith(("'", '"')), f"{key} is a key without the prefix"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_script_calls_is_defined_above_the_call(name: str) -> None:
    """A missing include shows here, and not when that branch first runs in production."""
    source = load_scripts()[name].source
    defined = {
        "redis",
        "string",
        "table",
        "math",
        "cmsgpack",
        "cjson",
        "ipairs",
        "pairs",
        "tonumber",
        "tostring",
        "unpack",
    }
    for line in source.splitlines():
        code = re.sub(r"'[^']*'", "''", line)
        match = re.search(r"local function (\w+)\(([^)]*)\)", code)
        if match:
            defined |= {match[1], *WORD.findall(match[2])}
        for group in re.findall(r"\blocal ([\w, ]+?)\s*(?:=|$)", code):
            defined |= set(WORD.findall(group))
        for group in re.findall(r"\bfor ([\w, ]+?)\s*(?:=| in )", code):
            defined |= set(WORD.findall(group))
        for group in re.findall(r"\bfunction\(([^)]*)\)", code):
            defined |= set(WORD.findall(group))
        for called in re.findall(r"(?<![\w.:])([A-Za-z_]\w*)\(", code):
            assert called in defined or called in (
                "function",
                "if",
                "and",
                "or",
                "not",
                "return",
                "while",
                "until",
            ), f"{called} is not defined: {line.strip()}"


def test_includes_hold_definitions_only() -> None:
    """Each begins with `local` in the first column, so that what a script does not use can be left out."""
    for path in (LUA / "includes").glob("*.lua"):
        text = path.read_text()
        assert text.startswith(f"-- {path.stem}: "), path.name
        for piece in split_definitions(strip(text)):
            assert piece.startswith("local "), f"{path.name}: {piece[:60]!r}"


def test_no_include_is_unused() -> None:
    used = {
        word
        for name in NAMES
        for match in re.finditer(r"^--@include (.+)$", (LUA / f"{name}.lua").read_text(), re.MULTILINE)
        for word in match[1].split()
    }
    assert used == {path.stem for path in (LUA / "includes").glob("*.lua")}


@pytest.mark.parametrize("name", ["route_events", "park_run", "start_run", "fire_cron"])
def test_what_only_admission_needs_is_defined_when_a_run_needs_it(name: str) -> None:
    """Each definition costs every call a little, and most runs have no limits."""
    source = load_scripts()[name].source
    before, _, rest = source.partition("\nlocal function load_admission()\n")
    late, _, after = rest.partition("\nreturn admit\nend\n")
    for definition in ("finalize", "cancel", "skip_run", "join_debounce", "admit"):
        assert f"local function {definition}(" in late
    assert "local function make_ready(" in before
    assert "local function create_run(" in after


def test_a_script_without_a_proper_header_is_refused() -> None:
    text = (LUA / "lead.lua").read_text()
    assert expand(text).startswith("local prefix = KEYS[1]")


async def test_a_server_learns_all_scripts_and_to_collect_garbage_in_small_steps(store: Store) -> None:
    """On each connection; `setstepmul` gives what was set before."""
    loads, (verb, script, keys) = loading_commands()[:-1], loading_commands()[-1]
    assert [command[:2] for command in loads] == [("SCRIPT", "LOAD")] * len(NAMES)
    assert await store.client.call(verb, script, keys) == 50


def test_python_and_lua_make_the_same_keys() -> None:
    """store/keys.py and includes/keys.lua."""
    lua = dict(
        re.findall(r"local function (\w+)_(?:key|channel)\([^)]*\) return prefix \.\. '(\w+):'", keys_lua())
    )
    keys = Keys("ns", 3)
    python = {
        "run": keys.run("X"), "steps": keys.steps("X"), "runs": keys.runs("X"), "ready": keys.ready("X"),
        "claims": keys.claims("X"), "event": keys.event("X"), "events": keys.events("X"),
        "app": keys.app("X"), "done": keys.done_channel("X"),
        "child": keys.child_channel("X"), "pauses": keys.pauses_channel("X"),
    }  # fmt: skip
    for name, key in python.items():
        assert key == f"ns:{{3}}:{lua[name]}:X"
    assert SEPARATOR == "\x1f"
    assert r"local SEP = '\31'" in keys_lua()


def test_plain_keys_of_python_are_used_by_scripts_under_the_same_name() -> None:
    keys = Keys()
    text = "\n".join(script.source for script in load_scripts().values())
    for key in (keys.apps, keys.event_names, keys.timers, keys.nudge, keys.crons, keys.workers, keys.paused):
        name = key.removeprefix(keys.prefix)
        assert f"prefix .. '{name}'" in text, name
    assert "prefix .. 'functions:'" in text
    assert "prefix .. 'event_id:'" in text


def keys_lua() -> str:
    return (LUA / "includes" / "keys.lua").read_text()


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot_of(load_scripts()))
