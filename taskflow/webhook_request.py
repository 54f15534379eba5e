"""WebhookRequest: a request that a sender of webhooks has made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

import orjson

FORM = "application/x-www-form-urlencoded"


class WebhookRequest:
    """A request to a webhook: `headers` by their names in lower case, `query` with a list for each name, `raw` is the body."""

    def __init__(
        self, *, url: str, headers: Mapping[str, str], query: Mapping[str, list[str]], raw: bytes
    ) -> None:
        self.url = url
        self.headers = headers
        self.query = query
        self.raw = raw

    def __repr__(self) -> str:
        return f"<WebhookRequest {self.url!r:.200}: {len(self.raw):,} bytes>"

    @property
    def is_form(self) -> bool:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM

    @cached_property
    def body(self) -> Any:
        """The body as JSON has it, or of a form an object with a text for each name, or a list of texts; None if it is neither."""
        if self.is_form:
            found = parse_qs(self.raw.decode("utf-8", "replace"), keep_blank_values=True)
            return {name: values[0] if len(values) == 1 else values for name, values in found.items()}
        try:
            return orjson.loads(self.raw)
        except orjson.JSONDecodeError:
            return None
