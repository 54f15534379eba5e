"""Bodies of requests: read within a time and a size, unpacked within the size too. Hostile ones end as a problem."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.types import Receive

from taskflow.web.catalogue.problems import Kind, Problem

BODY_TIMEOUT_S = 30.0
MAX_BODY_BYTES = 8 * 1024 * 1024
GZIP = 16 + zlib.MAX_WBITS


async def read_body(
    headers: Mapping[str, str], receive: Receive, *, max_bytes: int = MAX_BODY_BYTES, timeout_s: float = BODY_TIMEOUT_S
) -> bytes:  # fmt: skip
    """The body, unpacked if it is gzip. Raises Problem for one that is too large, too slow or not what it says."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:19]) > max_bytes:
        raise too_large(int(length[:19]), max_bytes)
    parts, size, is_complete = [], 0, False
    try:
        async with asyncio.timeout(timeout_s):
            while not is_complete:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Problem(Kind.INVALID_REQUEST, "the client went away before the body was complete")
                part = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise too_large(size, max_bytes)
                parts.append(part)
                is_complete = not message.get("more_body", False)
    except TimeoutError:
        raise Problem(Kind.TOO_SLOW, f"the body was not complete within {timeout_s:g} s") from None
    return unpacked(b"".join(parts), headers.get("content-encoding", ""), max_bytes)


def unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its content encoding: gzip, or none."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip":
            reader = zlib.decompressobj(GZIP)
            try:
                plain = reader.decompress(body, max_bytes + 1)
            except zlib.error as error:
                raise Problem(
                    Kind.INVALID_REQUEST, f"the body says that it is gzip, but is not: {error}"
                ) from None
            if len(plain) > max_bytes:
                raise too_large(len(plain), max_bytes)
            if not reader.eof:
                raise Problem(Kind.INVALID_REQUEST, "the body says that it is gzip, but ends too early")
            return plain
        case other:
            raise Problem(Kind.WRONG_MEDIA_TYPE, f"Content-Encoding must be gzip or none, got {other!r:.80}")


def too_large(size: int, max_bytes: int) -> Problem:
    return Problem(
        Kind.TOO_LARGE, f"the body has {size:,} bytes or more, but at most {max_bytes:,} are taken"
    )


def parse_json(body: bytes) -> Any:
    """The value of a JSON body. Of members with the same name the last counts. Raises Problem."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem(
            Kind.INVALID_REQUEST, f"the body must be JSON in UTF-8, got {len(body):,} bytes: {error}"
        ) from None


def check_is_json(headers: Mapping[str, str]) -> None:
    """Raise Problem unless the request says that its body is JSON. Pages of other sites can't say that without asking first."""
    kind, _, rest = headers.get("content-type", "").lower().partition(";")
    charset = rest.partition("charset=")[2].strip(' "') or "utf-8"
    if not (kind.strip() == "application/json" or kind.strip().endswith("+json")):
        raise Problem(
            Kind.WRONG_MEDIA_TYPE, f"Content-Type must be application/json, got {kind.strip()!r:.80}"
        )
    if charset not in ("utf-8", "utf8"):
        raise Problem(Kind.WRONG_MEDIA_TYPE, f"the charset must be utf-8, got {charset!r:.40}")
