"""Verification of webhooks: whether a request comes from who knows the secret. Rule S14.7.

    @app.webhook("github", verify=verify.github(os.environ["GITHUB_SECRET"]))

A secret may be a list, so that it can be replaced while senders still use the old one. Signatures are compared in constant time.
Where the sender signs the time too, a request is refused that is further from now than `tolerance`, so that nobody sends it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac as hmac_of
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from taskflow.errors import ConfigError
from taskflow.types import Duration
from taskflow.values.durations import parse_duration_ms
from taskflow.webhook_request import WebhookRequest

Secret: TypeAlias = str | bytes | Sequence[str | bytes]
Encoding: TypeAlias = Literal["hex", "base64"]

DEFAULT_TOLERANCE: Duration = "5m"


class Unverified(Exception):
    """The request can't be trusted. The text says why, and never what would have been right."""


class Verification(ABC):
    """Checks requests of one sender. Also says which delivery a request is, for those whose senders number them."""

    @abstractmethod
    def check(self, request: WebhookRequest, now_ms: int) -> None:
        """Raise Unverified unless the request was made with the secret."""

    def delivery_id(self, request: WebhookRequest) -> str | None:
        """What the sender calls this delivery; the same when it sends it again. None if it does not say."""
        return None

    def reply(self, request: WebhookRequest) -> Any:
        """An answer that the sender expects before it sends events; None for a request that is no such question."""
        return None


class Signed(Verification):
    """For a signature by HMAC in a header, or in several parts of one."""

    def __init__(
        self,
        secret: Secret,
        *,
        header: str,
        algorithm: str = "sha256",
        encoding: Encoding = "hex",
        prefix: str = "",
        signed: Callable[[WebhookRequest, str], bytes] | None = None,
        timestamp: Callable[[WebhookRequest], str | None] | None = None,
        signatures: Callable[[str], Iterable[str]] = lambda text: (text,),
        tolerance: Duration = DEFAULT_TOLERANCE,
        delivery: Callable[[WebhookRequest], Any] = lambda request: None,
    ) -> None:
        """`signed` makes what is signed, of the request and its time; by default its body. `signatures` finds them in a header."""
        self.secrets = secrets_of(secret)
        self.header = header.lower()
        if algorithm not in hashlib.algorithms_available:
            raise ConfigError(f"algorithm must be one that hashlib knows, like sha256, got {algorithm!r:.40}")
        if encoding not in ("hex", "base64"):
            raise ConfigError(f"encoding must be hex or base64, got {encoding!r:.40}")
        self.algorithm = algorithm
        self.encoding = encoding
        self.prefix = prefix
        self.signed = signed or (lambda request, timestamp: request.raw)
        self.timestamp = timestamp
        self.signatures = signatures
        self.tolerance_ms = parse_duration_ms(tolerance, what="tolerance")
        self.delivery = delivery

    def check(self, request: WebhookRequest, now_ms: int) -> None:
        given = request.headers.get(self.header)
        if not given:
            raise Unverified(f"the header {self.header} is missing, which has the signature")
        at = self.time_of(request, now_ms)
        message = self.signed(request, at)
        expected = [self.digest(secret, message) for secret in self.secrets]
        found = [self.decoded(text) for text in self.signatures(given)]
        # Each is compared with each, so that the time says nothing of which secret is in use.
        matches = [
            hmac_of.compare_digest(mine, theirs)
            for mine in expected
            for theirs in found
            if theirs is not None
        ]
        if not any(matches):
            raise Unverified(f"the signature in the header {self.header} does not fit")

    def time_of(self, request: WebhookRequest, now_ms: int) -> str:
        """When the request was signed, as the sender wrote it. Raises Unverified if that is too far from now."""
        if self.timestamp is None:
            return ""
        text = self.timestamp(request) or ""
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise Unverified("the request does not say when it was signed")
        distance_ms = abs(now_ms - int(text) * 1000)
        if distance_ms > self.tolerance_ms:
            raise Unverified(
                f"it was signed {distance_ms / 1000:,.0f} s from now, and {self.tolerance_ms / 1000:,.0f} s are allowed"
            )
        return text

    def digest(self, secret: bytes, message: bytes) -> bytes:
        return hmac_of.new(secret, message, self.algorithm).digest()

    def decoded(self, text: str) -> bytes | None:
        """The signature in the text; None for what can be none."""
        text = text.strip()
        if not text.startswith(self.prefix):
            return None
        try:
            bare = text[len(self.prefix) :]
            return bytes.fromhex(bare) if self.encoding == "hex" else base64.b64decode(bare, validate=True)
        except (ValueError, binascii.Error):
            return None

    def delivery_id(self, request: WebhookRequest) -> str | None:
        found = self.delivery(request)
        return found if isinstance(found, str) and found else None


def secrets_of(secret: Secret) -> list[bytes]:
    """The secrets as bytes. Raises ConfigError, which does not show them."""
    given = [secret] if isinstance(secret, (str, bytes)) else list(secret)
    found = [each.encode() if isinstance(each, str) else each for each in given]
    if not found or not all(isinstance(each, bytes) and each for each in found):
        raise ConfigError("a webhook's secret must be a text that is not empty, or a list of such texts")
    return found


def hmac(
    secret: Secret,
    *,
    header: str,
    algorithm: str = "sha256",
    encoding: Encoding = "hex",
    prefix: str = "",
    timestamp: str | None = None,
    separator: str = ".",
    tolerance: Duration = DEFAULT_TOLERANCE,
    delivery: str | None = None,
) -> Verification:
    """For senders that sign the body by HMAC: the signature is `prefix` and the digest, in `header`.

    `timestamp` names a header with the seconds since the epoch; then that, `separator` and the body are signed. `delivery` names a
    header that is the same when a delivery is repeated. Raises ConfigError.
    """
    at = None if timestamp is None else (lambda request: request.headers.get(timestamp.lower()))
    return Signed(
        secret, header=header, algorithm=algorithm, encoding=encoding, prefix=prefix, timestamp=at,
        signed=None if timestamp is None else (lambda request, text: f"{text}{separator}".encode() + request.raw),
        tolerance=tolerance,
        delivery=lambda request: None if delivery is None else request.headers.get(delivery.lower()),
    )  # fmt: skip


def github(secret: Secret) -> Verification:
    """For GitHub: `X-Hub-Signature-256`. A delivery is known by `X-GitHub-Delivery`."""
    return hmac(secret, header="x-hub-signature-256", prefix="sha256=", delivery="x-github-delivery")


def shopify(secret: Secret) -> Verification:
    """For Shopify: `X-Shopify-Hmac-Sha256`. A delivery is known by `X-Shopify-Webhook-Id`."""
    return hmac(secret, header="x-shopify-hmac-sha256", encoding="base64", delivery="x-shopify-webhook-id")


def stripe(secret: Secret, *, tolerance: Duration = DEFAULT_TOLERANCE) -> Verification:
    """For Stripe: `Stripe-Signature`. A delivery is known by the `id` of its event."""

    def part(text: str, name: str) -> list[str]:
        pairs = (pair.strip().partition("=") for pair in text.split(","))
        return [value for key, _, value in pairs if key == name]

    def at(request: WebhookRequest) -> str | None:
        return next(iter(part(request.headers.get("stripe-signature", ""), "t")), None)

    return Signed(
        secret, header="stripe-signature", timestamp=at, signed=lambda request, text: f"{text}.".encode() + request.raw,
        signatures=lambda text: part(text, "v1"), tolerance=tolerance, delivery=lambda request: member(request.body, "id"),
    )  # fmt: skip


class Slack(Signed):
    """Slack asks once whether the address is right, and wants its challenge back."""

    def reply(self, request: WebhookRequest) -> Any:
        if member(request.body, "type") == "url_verification":
            return {"challenge": member(request.body, "challenge")}
        return None


def slack(secret: Secret, *, tolerance: Duration = DEFAULT_TOLERANCE) -> Verification:
    """For Slack: `X-Slack-Signature`. It answers the challenge. A delivery is known by its `event_id`."""
    return Slack(
        secret, header="x-slack-signature", prefix="v0=", tolerance=tolerance,
        timestamp=lambda request: request.headers.get("x-slack-request-timestamp"),
        signed=lambda request, text: f"v0:{text}:".encode() + request.raw,
        delivery=lambda request: member(request.body, "event_id"),
    )  # fmt: skip


class StandardWebhooks(Signed):
    """Secrets are base64 behind `whsec_`; the id of the delivery is signed too."""

    def __init__(self, secret: Secret, *, tolerance: Duration) -> None:
        super().__init__(
            [standard_key(each) for each in secrets_of(secret)], header="webhook-signature", prefix="v1,", encoding="base64",
            tolerance=tolerance, timestamp=lambda request: request.headers.get("webhook-timestamp"),
            signed=lambda request, text: f"{request.headers.get('webhook-id', '')}.{text}.".encode() + request.raw,
            signatures=str.split, delivery=lambda request: request.headers.get("webhook-id"),
        )  # fmt: skip


def standard_key(secret: bytes) -> bytes:
    """The key in a secret like whsec_...: the bytes that stand there as base64. Raises ConfigError, which does not show it."""
    try:
        return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)
    except binascii.Error:
        raise ConfigError("a secret of Standard Webhooks must be base64, perhaps behind whsec_") from None


def standard_webhooks(secret: Secret, *, tolerance: Duration = DEFAULT_TOLERANCE) -> Verification:
    """For senders that follow Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`."""
    return StandardWebhooks(secret, tolerance=tolerance)


class Twilio(Signed):
    """Twilio signs the address with the sorted fields of a form, or with the hash of another body in its query."""

    def __init__(self, secret: Secret, url: str | None) -> None:
        super().__init__(
            secret, header="x-twilio-signature", algorithm="sha1", encoding="base64", signed=self.signed_text,
            delivery=lambda request: request.headers.get("i-twilio-idempotency-token"),
        )  # fmt: skip
        self.url = url

    def check(self, request: WebhookRequest, now_ms: int) -> None:
        super().check(request, now_ms)
        told = request.query.get("bodySHA256", [])
        if told and not hmac_of.compare_digest(hashlib.sha256(request.raw).hexdigest(), told[0].lower()):
            raise Unverified("the body is not that whose hash stands in bodySHA256")
        if not told and not request.is_form:
            raise Unverified("the body is no form, and its hash does not stand in bodySHA256")

    def signed_text(self, request: WebhookRequest, _: str) -> bytes:
        url = request.url
        if self.url is not None:
            query = urlsplit(request.url).query
            url = self.url + (f"?{query}" if query else "")
        if not request.is_form:
            return url.encode()
        pairs = parse_qsl(request.raw.decode("utf-8", "replace"), keep_blank_values=True)
        return (url + "".join(name + value for name, value in sorted(set(pairs)))).encode()


def twilio(auth_token: Secret, *, url: str | None = None) -> Verification:
    """For Twilio: `X-Twilio-Signature`. `url` is the address that Twilio calls, without its query, where a proxy hides it."""
    return Twilio(auth_token, url)


class Open(Verification):
    """Lets in everything."""

    def check(self, request: WebhookRequest, now_ms: int) -> None:
        """Trust the request."""


def nothing() -> Verification:
    """For senders that sign nothing: whoever knows the address can send."""
    return Open()


def member(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, Mapping) else None
