"""Calls an operation of a `taskflow web` elsewhere, over HTTP. With the standard library only, so that it needs no extra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import orjson

from taskflow.errors import ConfigError
from taskflow.web.catalogue.operation import Operation
from taskflow.web.catalogue.problems import Kind, Problem

API = "/api/v1"
TIMEOUT_S = 90.0  # longer than the longest wait
PATH_FIELD = re.compile(r"\{(\w+)\}")


class NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it would take the key to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def call_over_http(
    operation: Operation, given: Mapping[str, Any], *, url: str, key: str | None, idempotency_key: str | None
) -> Any:
    """The answer of the operation. Raises Problem as it was told, and ConfigError if nobody answers at the address."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"--url must be an address like http://localhost:8288, got {url!r:.80}")
    request = request_for(
        operation, given, base=url.rstrip("/") + ("" if url.rstrip("/").endswith(API) else API)
    )
    if key:
        request.add_header("authorization", f"Bearer {key}")
    if idempotency_key:
        request.add_header("idempotency-key", idempotency_key)
    try:
        with build_opener(NoRedirects).open(request, timeout=TIMEOUT_S) as answer:
            return orjson.loads(answer.read())
    except HTTPError as refusal:
        with refusal:
            raise told_problem(refusal.status or 0, refusal.read()) from None
    except (URLError, OSError, HTTPException, orjson.JSONDecodeError) as error:
        raise ConfigError(f"no taskflow web answers at {url}: {error}") from error


def request_for(operation: Operation, given: Mapping[str, Any], *, base: str) -> Request:
    """The HTTP request: fields of the path stand there, others in the query or, for a write, in the body."""
    rest = dict(given)

    def fill(match: re.Match[str]) -> str:
        if match[1] not in rest:
            raise Problem(Kind.INVALID_FIELD, f"{match[1]} is missing")
        return quote(str(rest.pop(match[1])), safe="")

    url = base + PATH_FIELD.sub(fill, operation.path)
    if operation.is_write:
        return Request(url, orjson.dumps(rest), {"content-type": "application/json"}, method=operation.method)
    query = urlencode({name: as_text(value) for name, value in rest.items() if value is not None})
    return Request(f"{url}?{query}" if query else url, method="GET")


def as_text(value: Any) -> str:
    """A value as it stands in a query."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def told_problem(status: int, body: bytes) -> Problem:
    """The problem that the other side told; for an answer that is none of taskflow's, one that says so."""
    try:
        told = orjson.loads(body)
        return Problem(Kind[told["code"].upper()], told["detail"])
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Problem(
            Kind.INTERNAL,
            f"the address answered {status} with {len(body):,} bytes that are no problem of taskflow's",
        )
