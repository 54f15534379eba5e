"""What the scripts of a package share: the definitions of `lua/includes`, each written where a script needs it.

A script names no includes: a word that a file of `lua/includes` defines brings that definition in, and those that it uses. A
constant of an include (upper case; a literal or another constant) is written where it is used, and costs nothing at run time. So is
a function of one line that takes each argument once at most, as `local function run_key(id) return prefix .. 'run:' .. id end`.

`--@finally note_census when counted`, in an include, ends each script that uses `counted` with a call of `note_census`.

`--@at refuse: flow.rate and rate_refusal(flow.rate)`, in an include, is code for the stage `refuse` of another include. There, a
line `--@any refuse` stands for one expression, true when that of any include is, and `--@each refuse` for the statements of all, in
the order of the includes' names. So a limit brings its code for each stage of admission along, and no list names all limits.

`--@late finalize`, above a line that calls `finalize`, says that few calls of the script reach that line: definitions that only
`finalize` needs are made there and not at the start, since the server makes every local function anew at each call of a script, at
0.1 to 0.2 us each. What is late only in code that is late itself is made later still.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

STRING = r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\""
STRING_OR_COMMENT = re.compile(rf"{STRING}|--.*")
STRING_OR_WORD = re.compile(rf"{STRING}|(?<![\w.:])[A-Za-z_]\w*")
DEFINITION = re.compile(r"local (?:function )?([\w, ]+)")
CONSTANT = re.compile(rf"local ([A-Z][A-Z0-9_]*) = (-?[\d.]+|{STRING}|[A-Z][A-Z0-9_]*)$")
ONE_LINE = re.compile(r"local function (\w+)\(([\w, ]*)\) return (.+) end$")
FINALLY = re.compile(r"^--@finally (\w+) when (\w+)$", re.MULTILINE)
AT = re.compile(r"^--@at (\w+): (.+)$", re.MULTILINE)
STAGE = re.compile(r"^( *)--@(any|each) (\w+)$", re.MULTILINE)
LATE = re.compile(r"^( *)--@late ([\w ]+)$", re.MULTILINE)


class Uses(NamedTuple):
    """The definitions of the library that a piece of code uses."""

    named: tuple[str, ...]  # the definitions that it names, in the order of the text
    early: frozenset[str]  # those of them that are not late here
    late: tuple[tuple[str, ...], ...]  # its late marks


class Library:
    """The definitions of all includes, and which of them a script needs: those that it names, and those that these name."""

    def __init__(self, includes: Mapping[str, str]) -> None:
        self.constants: dict[str, str] = {}
        self.pieces: dict[str, str] = {}  # by name; a definition of several names stands under each of them
        self.last_calls = [found for text in includes.values() for found in FINALLY.findall(text)]
        for include, text in fill_stages(includes).items():
            for piece in split_definitions(strip(text)):
                self.define(piece, include)
        self.pieces = {name: inline(piece, self.constants) for name, piece in self.pieces.items()}
        self.one_liners = find_one_liners(self.pieces)
        self.pieces = {name: write_out(piece, self.one_liners) for name, piece in self.pieces.items()}
        # Caches: each script asks for the same definitions, and without these two every process would start 0.15 s later.
        self.read: dict[str, Uses] = {}
        self.reached: dict[str, frozenset[str]] = {}

    def uses(self, text: str) -> Uses:
        uses = self.read.get(text)
        if uses is None:
            late = tuple(late_names(text))
            named = self.names_in(text)
            early = frozenset(self.names_in(LATE.sub("", text)) if late else named) - names_in(late)
            uses = self.read[text] = Uses(named, early, late)
        return uses

    def names_in(self, text: str) -> tuple[str, ...]:
        """The definitions that the code names, in the order of the code."""
        # Strings need no special care: quoted text is never the name of a definition.
        return tuple(dict.fromkeys(filter(self.pieces.__contains__, STRING_OR_WORD.findall(text))))

    def define(self, piece: str, include: str) -> None:
        constant = CONSTANT.match(piece)
        for name in defined_names(piece):
            if name in self.pieces or name in self.constants:
                raise ValueError(f"includes/{include}.lua: {name} is defined twice")
            if constant:
                self.constants[name] = self.constants.get(constant[2], constant[2])
            else:
                self.pieces[name] = piece

    def expand(self, body: str) -> str:
        """The code of a script, with the definitions that it needs in front."""
        body = self.with_last_calls(write_out(inline(body, self.constants), self.one_liners))
        late = self.late_blocks(body)
        early = self.closure(self.uses(body).early - names_in(late))
        inner = {block: self.closure(block) for block in late}
        within = self.find_outer(body, early, inner)
        for block, outer in within.items():
            inner[block] -= inner[outer]
        # A definition that two late blocks need is made once, early: it may hold state that both change.
        shared = {
            piece for one in late for other in late if one is not other for piece in inner[one] & inner[other]
        }
        early |= self.closure(word for piece in shared for word in defined_names(piece))
        makers: dict[str, str] = {}
        for block in sorted(late, key=lambda block: block not in within):
            makers[block[0]] = self.make_late(block, self.in_order(inner[block] - early, makers=makers))
        for block in within:
            del makers[block[0]]
        text = "\n".join(self.in_order(early, makers=makers, last=body))
        return (LATE.sub(call_late, text) if late else text) + "\n"

    def find_outer(
        self, body: str, early: set[str], inner: Mapping[tuple[str, ...], set[str]]
    ) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The late blocks that are marked in one other block only: with that one, which is made before them."""
        found = {}
        for block in inner:
            if any(block in self.uses(text).late for text in [body, *early]):
                continue
            outer = [
                other
                for other, pieces in inner.items()
                if other != block and any(block in self.uses(piece).late for piece in pieces)
            ]
            if len(outer) == 1 and outer[0] not in found:
                found[block] = outer[0]
        return found

    def make_late(self, block: tuple[str, ...], pieces: list[str]) -> str:
        """A Lua function that makes the late definitions at its first call, and keeps them."""
        first, names = block[0], ", ".join(block)
        made = f"unpack(made_{first})" if len(block) > 1 else f"made_{first}"
        text = "\n".join(
            [
                f"local made_{first}",
                f"local function late_{first}()",
                f"if made_{first} then return {made} end",
                *pieces,
                f"made_{first} = {f'{{{names}}}' if len(block) > 1 else first}",
                f"return {names}",
                "end",
            ]
        )  # fmt: skip
        # The function uses what its pieces use. That is known, so its own long text need not be parsed.
        uses = [self.uses(piece) for piece in pieces]
        named = tuple(dict.fromkeys(name for each in uses for name in each.named))
        self.read[text] = Uses(named, frozenset(named), tuple(mark for each in uses for mark in each.late))
        return text

    def with_last_calls(self, body: str) -> str:
        """The code, followed by the calls that `--@finally` asks for, if any: then the code becomes a function."""
        used = self.closure({*self.uses(body).named}.union(*self.late_blocks(body)))
        calls = [name for name, word in self.last_calls if self.pieces[word] in used]
        if not calls:
            return body
        ends = "".join(f"{name}()\n" for name in calls)
        # Also when it fails half way: what it has done so far is there to stay.
        return (
            f"local function main()\n{body}end\nlocal is_done, reply = pcall(main)\n{ends}"
            "if not is_done then error(reply, 0) end\nreturn reply\n"
        )

    def late_blocks(self, body: str) -> list[tuple[str, ...]]:
        """The names in each `--@late` mark of the script and of the definitions that it uses."""
        blocks: list[tuple[str, ...]] = []
        while True:
            pieces = self.closure({*self.uses(body).named}.union(*blocks))
            found = dict.fromkeys(block for text in [body, *sorted(pieces)] for block in self.uses(text).late)
            if found.keys() <= set(blocks):
                return blocks
            blocks = list(found)

    def closure(self, words: Iterable[str]) -> set[str]:
        """The definitions that these words name, directly or through other definitions, but not through a late mark."""
        used: set[str] = set()
        for word in words:
            if word in self.pieces:
                used |= self.reach(word)
        return used

    def reach(self, name: str) -> frozenset[str]:
        """The closure of one name."""
        reached = self.reached.get(name)
        if reached is None:
            used: set[str] = set()
            rest = [name]
            while rest:
                piece = self.pieces[rest.pop()]
                if piece not in used:
                    used.add(piece)
                    rest += self.uses(piece).early
            reached = self.reached[name] = frozenset(used)
        return reached

    def in_order(
        self, pieces: set[str], *, makers: Mapping[str, str] | None = None, last: str = ""
    ) -> list[str]:
        """The definitions in order: each stands behind those that it names, and a maker of late ones before its first use."""
        ordered: dict[str, None] = {}
        under_way: set[str] = set()

        def place(text: str) -> None:
            if text in ordered:
                return
            if text in under_way:
                raise ValueError(f"these definitions need each other: {text[:60]!r}")
            under_way.add(text)
            uses = self.uses(text)
            for name in uses.named:
                piece = self.pieces[name]
                if piece in pieces and piece != text:
                    place(piece)
            for block in uses.late:
                if makers and block[0] in makers:
                    place(makers[block[0]])
            ordered[text] = None

        for text in [last] if last else sorted(pieces):
            place(text)
        return [text.rstrip("\n") for text in ordered]


def fill_stages(includes: Mapping[str, str]) -> dict[str, str]:
    """The includes with the code of the `--@at` marks in place of the `--@any` and `--@each` marks. Raises ValueError."""
    code: dict[str, list[str]] = {}
    for _, text in sorted(includes.items()):
        for stage, line in AT.findall(text):
            code.setdefault(stage, []).append(line)
    stages = {stage for text in includes.values() for _, _, stage in STAGE.findall(text)}
    if unmatched := stages ^ code.keys():
        raise ValueError(
            f"stage {min(unmatched)!r}: it needs an --@any or --@each mark in one include, and an --@at mark in another"
        )

    def fill(match: re.Match[str]) -> str:
        indent, kind, stage = match.groups()
        return indent + f"\n{indent}{'or ' if kind == 'any' else ''}".join(code[stage])

    return {name: STAGE.sub(fill, text) for name, text in includes.items()}


def call_late(match: re.Match[str]) -> str:
    names = match[2].split()
    return f"{match[1]}local {', '.join(names)} = late_{names[0]}()"


def late_names(text: str) -> list[tuple[str, ...]]:
    return [tuple(names.split()) for _, names in LATE.findall(text)]


def names_in(blocks: Iterable[tuple[str, ...]]) -> set[str]:
    return {name for block in blocks for name in block}


def strip(text: str) -> str:
    """Lua without comments and blank lines; the `--@late` marks are kept."""
    lines = []
    for line in text.splitlines():
        has_comment = "--" in line and not LATE.match(line)
        code = STRING_OR_COMMENT.sub(keep_strings, line).rstrip() if has_comment else line
        if code:
            lines.append(code)
    return "\n".join(lines) + "\n"


def keep_strings(match: re.Match[str]) -> str:
    return "" if match[0].startswith("--") else match[0]


def inline(text: str, constants: Mapping[str, str]) -> str:
    """The code with the names of these constants replaced by their values."""
    if not constants:
        return text
    names = re.compile(rf"{STRING}|(?<![\w.:])(?:{'|'.join(constants)})(?!\w)")
    return names.sub(lambda match: constants.get(match[0], match[0]), text)


class OneLiner(NamedTuple):
    """A function that only returns an expression."""

    parameters: tuple[str, ...]
    expression: str


def find_one_liners(pieces: Mapping[str, str]) -> dict[str, OneLiner]:
    """Those that take each argument once at most: written where they are called, they mean the same."""
    found: dict[str, OneLiner] = {}
    for piece in pieces.values():
        match = ONE_LINE.match(piece)
        if match:
            parameters = tuple(match[2].replace(" ", "").split(",")) if match[2] else ()
            words = list(words_in_order(match[3]))
            if all(words.count(parameter) <= 1 for parameter in parameters) and "function" not in words:
                found[match[1]] = OneLiner(parameters, match[3])
    for _ in found:
        found = {
            name: OneLiner(one.parameters, write_out(one.expression, found)) for name, one in found.items()
        }
    return found


def write_out(text: str, one_liners: Mapping[str, OneLiner]) -> str:
    """The code with the expressions of these functions in place of their calls."""
    if not one_liners:
        return text
    calls = re.compile(rf"{STRING}|(?<![\w.:])(?<!function )({'|'.join(one_liners)})\(")
    parts, place = [], 0
    while match := calls.search(text, place):
        parts.append(text[place : match.start()])
        if match[1] is None:
            parts.append(match[0])
            place = match.end()
            continue
        arguments, place = read_arguments(text, match.end())
        parts.append(fill_in(one_liners[match[1]], [write_out(each, one_liners) for each in arguments]))
    return "".join([*parts, text[place:]])


def read_arguments(text: str, place: int) -> tuple[list[str], int]:
    """The arguments of a call, from behind its `(` on, and where the code goes on."""
    arguments, start, depth = [], place, 0
    for match in re.compile(rf"{STRING}|[()\[\]{{}},]").finditer(text, place):
        sign = match[0]
        if sign in ("(", "[", "{"):
            depth += 1
        elif sign == "," and depth == 0:
            arguments.append(text[start : match.start()].strip())
            start = match.end()
        elif sign == ")" and depth == 0:
            last = text[start : match.start()].strip()
            return [*arguments, *([last] if last else [])], match.end()
        elif sign in (")", "]", "}"):
            depth -= 1
    raise ValueError(f"a call does not end: {text[place : place + 60]!r}")


def fill_in(one: OneLiner, arguments: list[str]) -> str:
    values = dict(zip(one.parameters, arguments, strict=False))

    def value(match: re.Match[str]) -> str:
        word = match[0]
        if word not in one.parameters:
            return word
        text = values.get(word, "nil")
        return text if re.fullmatch(rf"[\w.]+|{STRING}", text) else f"({text})"

    text = STRING_OR_WORD.sub(value, one.expression)
    # A call may give several values.
    call = re.match(r"[\w.]+\(", text)
    return text if call and read_arguments(text, call.end())[1] == len(text) else f"({text})"


def split_definitions(text: str) -> list[str]:
    """The top-level definitions of an include: each starts with `local` in the first column."""
    return [piece.rstrip() for piece in re.split(r"^(?=local )", text, flags=re.MULTILINE) if piece.strip()]


def defined_names(piece: str) -> list[str]:
    match = DEFINITION.match(piece)
    return match[1].replace(" ", "").split(",") if match else []


def words_in_order(text: str) -> Iterator[str]:
    """The names that the code uses; strings and fields of tables don't count."""
    return (word for word in STRING_OR_WORD.findall(text) if word[0] not in "'\"")


def words_of(text: str) -> set[str]:
    return set(words_in_order(text))
