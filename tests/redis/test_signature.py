"""The arguments of scripts, by name: what Python sends is what Lua reads, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from taskflow.redis.address import parse_server_url
from taskflow.redis.client import StoreClient
from taskflow.redis.library import Library, strip
from taskflow.redis.linking import signature_of
from taskflow.redis.scripts import Script, callers_of
from tests.servers import ValkeyServer


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def client(server: ValkeyServer) -> AsyncIterator[StoreClient]:
    client = StoreClient(parse_server_url(server.url, what="store"))
    await client.connect()
    yield client
    await client.close()


def script(text: str, **includes: str) -> Script:
    signature = signature_of(text)
    source = Library(includes).expand(signature.bind_lua(strip(text)))
    return Script.of("example", source, signature)


async def run(client: StoreClient, made: Script, **named: Any) -> Any:
    """Loads the script and calls it by names, on its way through the generated function."""
    await client.call("SCRIPT", "LOAD", made.source)
    call = callers_of(made.name, made.signature)["bind"](client, made.sha.encode(), b"prefix:")
    return await call(**named)


async def test_arguments_come_by_name_and_type(client: StoreClient) -> None:
    made = script(
        "--@argv text number:int yes:flag no:flag\nreturn {text, number + 1, yes and 1 or 0, no and 1 or 0}\n"
    )
    assert await run(client, made, no=False, number=41, text="a", yes=True) == [b"a", 42, 1, 0]


async def test_lists_and_records_come_in_any_number(client: StoreClient) -> None:
    made = script(
        "--@argv first names[] pairs[key value:int] last rows[id words[]]\n"
        "local found = {first, last}\n"
        "for name in names do found[#found + 1] = name end\n"
        "for value, key in pairs do found[#found + 1] = key .. '=' .. value + 1 end\n"
        "for id, words in rows do\n"
        "  found[#found + 1] = id .. ':' .. count_of(words)\n"
        "  for word in words do found[#found + 1] = word end\n"
        "end\n"
        "return found\n"
    )
    named: dict[str, Any] = {"first": "f", "last": "l", "names": ["a", "b"], "pairs": [("x", 1), ("y", 2)]}
    assert await run(client, made, **named, rows=[("r", ["w", "z"]), ("s", [])]) == [
        b"f", b"l", b"a", b"b", b"x=2", b"y=3", b"r:2", b"w", b"z", b"s:0",
    ]  # fmt: skip
    assert await run(client, made, first="f", last="l", names=[], pairs=[], rows=[]) == [b"f", b"l"]


async def test_the_places_of_a_list_are_known(client: StoreClient) -> None:
    """For commands that take all of it at once."""
    made = script("--@argv key rest[]\nreturn {rest, last_of(rest), count_of(rest)}\n")
    assert await run(client, made, key="k", rest=["a", "b", "c"]) == [2, 4, 3]


async def test_items_of_one_turn_of_the_loop_leave_together(client: StoreClient) -> None:
    made = script(
        "--@argv owner\n--@together ends[id is_last:flag notes[word]]\n"
        "local reply = {owner}\n"
        "for id, is_last, notes in ends do\n"
        "  reply[#reply + 1] = id .. (is_last and '!' or '') .. count_of(notes)\n"
        "end\n"
        "return reply\n"
    )
    await client.call("SCRIPT", "LOAD", made.source)
    call = callers_of(made.name, made.signature)["bind"](client, made.sha.encode(), b"prefix:")
    one = call(owner="me", id="a", is_last=False, notes=[("x",)])
    two = call(owner="me", id="b", is_last=True, notes=[])
    assert (await one, await two) == ((b"a1", b"me"), (b"b!0", None))


def test_a_wrong_name_is_refused_where_the_call_stands() -> None:
    made = script("--@argv now_ms:int run_id\nreturn {now_ms, run_id}\n")
    assert made.argv(now_ms=1, run_id="r") == (1, "r")
    with pytest.raises(TypeError, match="run"):
        made.argv(now_ms=1, run="r")
    with pytest.raises(TypeError, match="run_id"):
        made.argv(now_ms=1)


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ("rows[a b]", "for c in rows do end", "rows has no field 'c'"),
        ("names[]", "for a, b in names do end", "names is a list of texts"),
        ("rows[words[] id]", "", "a list must be the last field"),
        ("rows[words[]] last", "", "only the last list"),
        ("rows[a", "", "is not closed"),
        ("Name", "", "expected name"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: str, body: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        script(f"--@argv {header}\n{body}\n")


# --- includes ---


def test_a_word_brings_in_its_definition_and_what_that_needs() -> None:
    made = script(
        "return outer()\n",
        one="local function inner()\nreturn LIMIT\nend\nlocal LIMIT = 5\nlocal function unused() end\n",
        two="local function outer()\nreturn inner()\nend\n",
    )
    assert (
        made.source
        == "local function inner()\nreturn 5\nend\nlocal function outer()\nreturn inner()\nend\nreturn outer()\n"
    )


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("{key('a')}", ["k:a"]),
        ("{key('a' .. 'b') .. 'c'}", ["k:abc"]),
        ("{key(key('a, b)'))}", ["k:k:a, b)"]),
        ("{two('x,y')}", ["x", "y"]),
        ("{first('x,y')}", ["x"]),
        ("{otherwise(nil, 'b')}", ["b"]),
        ("{otherwise(false)}", ["none"]),
        ("{(key)('a')}", ["k:a"]),
    ],
)
async def test_a_function_of_one_line_is_written_where_it_is_called(
    client: StoreClient, call: str, value: list[str]
) -> None:
    made = script(
        f"return {call}\n",
        keys="local function key(name) return 'k:' .. name end\n"
        "local function two(text) return string.match(text, '^(.-),(.*)$') end\n"
        "local function first(text) return (string.match(text, '^(.-),(.*)$')) end\n"
        "local function otherwise(one, other) return one or other or 'none' end\n",
    )
    assert ("local function" in made.source) == ("(key)" in call)
    assert [text.decode() for text in await run(client, made)] == value


def test_a_function_of_one_line_that_takes_an_argument_twice_is_called() -> None:
    made = script("return twice(f())\n", one="local function twice(text) return text .. text end\n")
    assert made.source == "local function twice(text) return text .. text end\nreturn twice(f())\n"


async def test_what_is_late_in_late_code_is_made_within(client: StoreClient) -> None:
    """What both need is made with the outer one, so that other calls have neither."""
    made = script(
        "if ARGV[1] then\n  --@late outer\n  outer()\nend\nreturn {1}\n",
        one="local shared = {}\nlocal function note(text)\n  shared[#shared + 1] = text\nend\n"
        "local function inner()\n  note('inner')\nend\n"
        "local function outer()\n  note('outer')\n  --@late inner\n  inner()\n"
        "  redis.call('RPUSH', KEYS[1], unpack(shared))\nend\n",
    )
    late = made.source.index("local function late_outer()")
    assert late < made.source.index("local shared") < made.source.index("local function late_inner()")
    assert await run(client, made) == [1]


def test_words_in_strings_and_fields_bring_in_nothing() -> None:
    made = script("return t.outer .. 'outer' -- outer\n", two="local function outer() end\n")
    assert made.source == "return t.outer .. 'outer'\n"


STAGES = {
    "ask": "local function ask(n)\n  local why = n and\n    --@any refuse\n  --@each count\n  return why or n\nend\n",
    "even": "--@at refuse: n % 2 == 0 and even_text\nlocal even_text = 'even'\n",
    "great": "--@at count: n = n + 1\n--@at refuse: is_great(n) and 'great'\n"
    "local function is_great(n)\n  return n > 9\nend\n",
}


async def test_an_include_brings_its_code_for_a_stage_of_another_one_along(client: StoreClient) -> None:
    """In the order of the includes' names."""
    made = script("--@argv n:int\nreturn {ask(n)}\n", **dict(reversed(STAGES.items())))
    assert [await run(client, made, n=n) for n in (1, 2, 11, 12)] == [[2], [b"even"], [b"great"], [b"even"]]


@pytest.mark.parametrize("missing", [{"ask"}, {"even", "great"}, {"great"}])
def test_a_stage_without_code_or_without_place_is_refused(missing: set[str]) -> None:
    with pytest.raises(ValueError, match=r"stage '(count|refuse)': it needs"):
        script("return 1\n", **{name: text for name, text in STAGES.items() if name not in missing})


async def test_what_is_late_is_made_when_it_is_needed_and_once(client: StoreClient) -> None:
    """State that both parts use is made at once."""
    made = script(
        "local function twice()\n  --@late outer\n  return outer()\nend\ntwice()\nreturn {twice(), count}\n",
        one="local count = 0\nlocal function helper() count = count + 1 end\n",
        two="local function outer()\n  helper()\n  return count\nend\n",
    )
    assert made.source.index("local count = 0") < made.source.index("local function late_outer()")
    assert (
        made.source.index("late_outer")
        < made.source.index("local function helper")
        < made.source.index("return outer\n")
    )
    assert await run(client, made) == [2, 2]


def test_definitions_that_need_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="need each other"):
        script("return a()\n", one="local function a() return b() end\nlocal function b() return a() end\n")


def test_a_name_has_one_definition() -> None:
    with pytest.raises(ValueError, match="defined twice"):
        script("return 1\n", one="local function a() end\n", two="local function a() end\n")
