"""Renders a page: the template with what all pages have, the headers, and the tag by which a browser asks what changed."""

from __future__ import annotations

import hashlib
import re
import shlex
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from taskflow.terminal.screen import glyph
from taskflow.values.durations import format_duration
from taskflow.values.text import printable_lines, short
from taskflow.values.times import date_and_time, relative
from taskflow.web.api.guard import Caller
from taskflow.web.pages.assets import assets
from taskflow.web.pages.texts import TEXTS
from taskflow.web.pages.visitor import COOKIE, theme_of

FOLDER = Path(__file__).parent / "templates"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
MAX_JSON_CHARS = 64 * 1024  # of a value on a page; the API has it whole
TIMES = re.compile(r"<time [^>]*>[^<]*</time>")
PAGES = ("runs", "errors", "functions", "events", "queues", "workers", "dead-letters", "audit")


def when(ms: int | None, now_ms: int) -> Markup:
    """A point in time: how long ago, with the exact time for machines and on hover."""
    if ms is None:
        return Markup("")
    exact = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact, date_and_time(ms, UTC), relative(ms, now_ms=now_ms)
    )


def json_text(value: Any) -> str:
    """A value as indented JSON, cut where it is too long for a page."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    if len(text) <= MAX_JSON_CHARS:
        return text
    return f"{text[:MAX_JSON_CHARS]}\n… ({len(text):,} characters in all; the API has them)"


def compact(value: Any) -> str:
    """A value as JSON in one line."""
    return orjson.dumps(value).decode()


def tail(run_id: str) -> str:
    """The end of the part of an id that differs from run to run of a function."""
    return run_id.partition("-")[0][-6:]


def took(ms: int | None) -> str:
    return "" if ms is None else format_duration(ms)


def sign(state: str) -> str:
    return glyph(state)[0]


def one_line(text: str, limit: int = 160) -> str:
    return short(text, limit)


def harmless(value: Any) -> Any:
    """What a template puts out, without characters that act on a reader, such as those that turn the direction of writing."""
    return printable_lines(value, indent="") if type(value) is str else value


@cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "json": json_text,
        "took": took,
        "sign": sign,
        "line": one_line,
        "seg": segment,
        "shell": shlex.quote,
        "tail": tail,
        "compact": compact,
        "exact": escape,
    }
    made.filters.update(filters)
    made.globals.update({"t": TEXTS, "when": when, "pages": PAGES, "query": query})
    return made


def segment(text: str) -> str:
    """A text as one segment of an address."""
    return quote(text, safe="")


def query(**fields: object) -> str:
    """The query of an address with those of the fields that are set; empty if there are none."""
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    return f"?{urlencode(given)}" if given else ""


def render(
    request: Request, template: str, caller: Caller | None, now_ms: int, *, status: int = 200, **values: Any
) -> Response:
    """The page as an answer. `part=main` gives its main region alone; 304 if the browser has it as it is."""
    here = request.url.path.removeprefix(base := request.scope.get("root_path", ""))
    around = {
        "base": base, "here": here, "caller": caller, "now_ms": now_ms, "theme": theme_of(request),
        "environment": request.url.netloc, "has_cookie": COOKIE in request.cookies,
        "assets": {name: f"{base}/assets/{asset.name}" for name, asset in assets().items()},
        "is_part": request.query_params.get("part") == "main", "q": "",
    }  # fmt: skip
    text = environment().get_template(template).render({**around, **values})
    # Relative times are no change: the script keeps them right.
    tag = f'"{hashlib.sha256(TIMES.sub("", text).encode()).hexdigest()[:24]}"'
    headers = {**HEADERS, "etag": tag}
    if status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(text, status, headers, "text/html; charset=utf-8")
