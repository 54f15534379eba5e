"""The scripts as files: headers, arguments, includes, keys, and what the server gets (`lua/linked/`).

When a script has changed, link the scripts and look at the diff: a changed include shows in all that use it.

    python -m tests.store.test_scripts
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskflow.redis.library import Library, split_definitions, strip, words_of
from taskflow.redis.linking import link, read_linked, read_sources, signature_of, write_linked
from taskflow.redis.scripts import load_scripts, loading_commands
from taskflow.store.claims import InvokedRun
from taskflow.store.keys import SEPARATOR, Keys
from taskflow.store.registry import RegisteredFunction
from taskflow.store.routing import Arrival, EventPlan, RunPlan
from taskflow.store.store import PACKAGE, Store

LUA = Path(__file__).parents[2] / "taskflow" / "store" / "lua"
PACKAGES = (PACKAGE, "taskflow.broker.streams")
RULE = re.compile(r"Rules? S\d+\.\d+")
SCRIPTS = load_scripts(PACKAGE)
NAMES = sorted(SCRIPTS)
WORD = re.compile(r"[A-Za-z_]\w*")


def script_calls() -> Iterator[tuple[str, list[str], str]]:
    """Each call of a script: its name, the keywords, and where."""
    for path in (LUA.parent).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr == "scripts" and node.func.attr in SCRIPTS:
                yield (
                    node.func.attr,
                    [str(keyword.arg) for keyword in node.keywords],
                    f"{path}:{node.lineno}",
                )


CALLS = list(script_calls())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_linked_scripts_are_those_that_the_files_give(package: str) -> None:
    """See above for how to renew them."""
    sources = read_sources(package)
    linked = read_linked(sources)
    assert linked is not None, "a script has changed: python -m tests.store.test_scripts"
    assert linked == link(sources), "the linker has changed: python -m tests.store.test_scripts"


def test_scripts_that_were_edited_are_linked_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in `linked/`."""
    (tmp_path / "edited" / "lua" / "includes").mkdir(parents=True)
    (tmp_path / "edited" / "__init__.py").touch()
    (tmp_path / "edited" / "lua" / "includes" / "one.lua").write_text("local ONE = 1\n")
    script = tmp_path / "edited" / "lua" / "count.lua"
    monkeypatch.syspath_prepend(tmp_path)

    def count(by: str) -> str:
        load_scripts.cache_clear()
        script.write_text(
            f"-- count: count.\n-- KEYS   1 prefix\n--@argv n:int\n-- Reply  n\nreturn n + {by}\n"
        )
        return load_scripts("edited")["count"].source

    try:
        first = count("ONE")
        write_linked(read_sources("edited"))
        assert read_linked(read_sources("edited")) == {"count": first}
        assert count("ONE") == first
        assert count("ONE + ONE").endswith("return n + 1 + 1\n")
    finally:
        load_scripts.cache_clear()


def header_of(name: str) -> list[str]:
    lines = (LUA / f"{name}.lua").read_text().splitlines()
    return lines[: next(place for place, line in enumerate(lines) if not line.startswith("--"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_header_tells_what_the_script_takes_and_gives(name: str) -> None:
    """What it is for with its rule, KEYS, the arguments, the reply, and what becomes of a repeat."""
    header = header_of(name)
    text = "\n".join(header)
    assert header[0].startswith(f"-- {name}: ")
    if name != "check_version":
        assert RULE.search(text), "it names no rule"
    assert "-- KEYS   1 prefix" in header
    assert "--@argv " in text
    assert re.search(r"^-- Reply  \S", text, re.MULTILINE)
    assert re.search(r"^-- Repeat \S", text, re.MULTILINE), "write '-- Repeat ...': what a second call does"


@pytest.mark.parametrize("name", NAMES)
def test_a_script_uses_all_arguments_that_its_header_names(name: str) -> None:
    """And it takes none by its place."""
    code = strip((LUA / f"{name}.lua").read_text())
    signature = SCRIPTS[name].signature
    for parameter in signature.parameters:
        assert parameter.name in words_of(code), parameter.name
    assert not re.search(r"ARGV\[", code)


def test_calls_name_the_arguments_that_the_headers_name() -> None:
    """`scripts.lead(...)` in the store's methods: mypy can't know what lead.lua takes."""
    assert {name for name, _, _ in CALLS} >= set(NAMES) - {"heartbeat"}, "some script is never called"
    for name, keywords, where in CALLS:
        assert sorted(keywords) == sorted(SCRIPTS[name].signature.names), f"{where}: {name}"


@pytest.mark.parametrize(
    ("script", "items", "record"),
    [
        ("route_events", "events", EventPlan),
        ("route_events", "runs", RunPlan),
        ("fire_cron", "runs", RunPlan),
        ("find_waits", "arrivals", Arrival),
        ("park_run", "children", InvokedRun),
        ("register_app", "functions", RegisteredFunction),
    ],
)
def test_records_have_the_fields_that_the_headers_name(
    script: str, items: str, record: type[EventPlan]
) -> None:
    """They are sent by their order, which saves a name for each field of each item."""
    parameter = SCRIPTS[script].signature.find_list(items)
    assert parameter is not None
    assert record._fields == tuple(field.name for field in parameter.fields)


def test_no_line_is_longer_than_132_columns() -> None:
    for path in [*LUA.glob("*.lua"), *LUA.glob("includes/*.lua")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) <= 132, f"{path.name}:{number}"


@pytest.mark.parametrize("name", NAMES)
def test_no_script_asks_the_server_for_the_time_or_chance(name: str) -> None:
    """S8.3: `now` is an argument, so that tests can turn the clock, and replicas do the same."""
    source = SCRIPTS[name].source
    assert not re.search(r"redis\.call\(\s*'(TIME|RANDOMKEY|SRANDMEMBER|SPOP)'", source, re.IGNORECASE)
    assert "math.random" not in source


@pytest.mark.parametrize("name", NAMES)
def test_every_key_begins_with_the_prefix(name: str) -> None:
    """Else it lies in another cluster slot. Key names are made by includes/keys.lua, or from `prefix` or KEYS[1]."""
    source = SCRIPTS[name].source
    keys = re.findall(r"redis\.call\('(?!PUBLISH)[A-Z]+', ([^,)]+)", source)
    for key in keys:
        assert not key.startswith(("'", '"')), f"{key} is a key without the prefix"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_script_calls_is_defined_above_the_call(name: str) -> None:
    """A missing include shows here, and not when that branch first runs in production."""
    source = SCRIPTS[name].source
    defined = {
        "redis",
        "string",
        "table",
        "math",
        "cmsgpack",
        "cjson",
        "ipairs",
        "pairs",
        "pcall",
        "error",
        "tonumber",
        "tostring",
        "type",
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


def test_no_definition_is_unused() -> None:
    """Each is needed by a script, and so is each constant by a definition or a script."""
    used = {word for script in SCRIPTS.values() for word in WORD.findall(script.source)}
    texts = [path.read_text() for path in [*LUA.glob("*.lua"), *(LUA / "includes").glob("*.lua")]]
    library = Library({path.stem: path.read_text() for path in sorted((LUA / "includes").glob("*.lua"))})
    for name in library.pieces:
        written = name in library.one_liners and sum(name in words_of(text) for text in texts) > 0
        assert written or name in used, name
    for name in library.constants:
        assert sum(name in words_of(strip(text)) for text in texts) > 0, name


@pytest.mark.parametrize("name", NAMES)
def test_no_local_name_hides_a_definition(name: str) -> None:
    """A word brings in the definition of that name: a local variable must have another one."""
    library = Library({path.stem: path.read_text() for path in sorted((LUA / "includes").glob("*.lua"))})
    code = strip((LUA / f"{name}.lua").read_text())
    signature = signature_of((LUA / f"{name}.lua").read_text())
    local = set(signature.names)
    for group in re.findall(r"\b(?:local|for) ([\w, ]+?)\s*(?:=| in |$)", code):
        local |= set(WORD.findall(group))
    for group in re.findall(r"\bfunction(?: \w+)?\(([^)]*)\)", code):
        local |= set(WORD.findall(group))
    assert not local & library.pieces.keys()


@pytest.mark.parametrize("name", ["route_events", "park_run", "start_run", "fire_cron"])
def test_what_only_admission_needs_is_defined_when_a_run_needs_it(name: str) -> None:
    """Each definition costs every call a little, and most runs have no limits."""
    source = SCRIPTS[name].source
    before, _, rest = source.partition("\nlocal function late_admit()\n")
    late, _, after = rest.partition("\nreturn admit\nend\n")
    for definition in ("finalize", "cancel", "skip_run", "join_debounce", "admit"):
        assert f"local function {definition}(" in late
    assert "local prefix = " in before
    assert "local function create_run(" in after


async def test_a_server_learns_all_scripts_and_to_collect_garbage_in_small_steps(store: Store) -> None:
    """On each connection; `setstepmul` gives what was set before."""
    loads, (verb, script, keys) = loading_commands(PACKAGE)[:-1], loading_commands(PACKAGE)[-1]
    assert [command[:2] for command in loads] == [("SCRIPT", "LOAD")] * len(NAMES)
    assert await store.client.call(verb, script, keys) == 50


def test_python_and_lua_make_the_same_keys() -> None:
    """store/keys.py and includes/keys.lua."""
    lua = dict(
        re.findall(r"local function (\w+)_(?:key|channel)\([^)]*\) return prefix \.\. '(\w+):'", keys_lua())
    )
    keys = Keys("ns", 3)
    python = {
        "run": keys.run("X"), "steps": keys.steps("X"), "runs": keys.runs("X"),
        "claims": keys.claims("X"), "event": keys.event("X"), "events": keys.events("X"),
        "app": keys.app("X"), "done": keys.done_channel("X"), "watch": keys.watch_channel("X"),
        "child": keys.child_channel("X"), "pauses": keys.pauses_channel("X"),
    }  # fmt: skip
    for name, key in python.items():
        assert key == f"ns:{{3}}:{lua[name]}:X"
    assert "return prefix .. 'ready:' .. queue .. ':' .. fn end" in keys_lua()
    assert keys.ready("X", "Q") == "ns:{3}:ready:Q:X"
    assert SEPARATOR == "\x1f"
    assert r"local SEP = '\31'" in keys_lua()


def test_plain_keys_of_python_are_used_by_scripts_under_the_same_name() -> None:
    keys = Keys()
    text = "\n".join(script.source for script in SCRIPTS.values())
    for key in (keys.apps, keys.event_names, keys.timers, keys.nudge, keys.crons, keys.workers, keys.paused):
        name = key.removeprefix(keys.prefix)
        assert f"prefix .. '{name}'" in text, name
    assert "prefix .. 'functions:'" in text
    assert "prefix .. 'event_id:'" in text


def keys_lua() -> str:
    return (LUA / "includes" / "keys.lua").read_text()


if __name__ == "__main__":
    for package in PACKAGES:
        write_linked(read_sources(package))
