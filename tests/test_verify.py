"""Signatures of webhooks: the examples that the providers publish, and what must not pass. Rule S14.7."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from taskflow import ConfigError, WebhookRequest, verify
from taskflow.verify import Signed, Unverified, Verification


def request(
    raw: bytes, headers: Mapping[str, str], *, url: str = "https://shop.example/webhooks/shop/x"
) -> WebhookRequest:
    return WebhookRequest(
        url=url, headers={name.lower(): value for name, value in headers.items()}, query=parse_qs(urlsplit(url).query), raw=raw
    )  # fmt: skip


def passes(verification: Verification, given: WebhookRequest, *, at_s: int = 0) -> bool:
    try:
        verification.check(given, at_s * 1000)
    except Unverified:
        return False
    return True


def altered(given: WebhookRequest, raw: bytes | None = None, **headers: str) -> WebhookRequest:
    return request(
        given.raw if raw is None else raw,
        {**given.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
        url=given.url,
    )


# docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload validation"
GITHUB_SECRET = "It's a Secret to Everybody"
GITHUB = request(
    b"Hello, World!",
    {
        "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    },
)
# api.slack.com/authentication/verifying-requests-from-slack
SLACK_SECRET, SLACK_AT_S = "8f742231b10e8888abcd99yyyzzz85a5", 1531420618
SLACK = request(
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
    b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
    b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121."
    b"803a0bc887a14d10d2c447fce8b6703c",
    {
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "X-Slack-Request-Timestamp": str(SLACK_AT_S),
        "Content-Type": "application/x-www-form-urlencoded",
    },
)
# github.com/standard-webhooks/standard-webhooks, the reference libraries' own example
STANDARD_SECRET, STANDARD_AT_S = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1614265330
STANDARD = request(
    b'{"test": 2432232314}',
    {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": str(STANDARD_AT_S),
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    },
)
# www.twilio.com/docs/usage/security, and the tests of Twilio's own libraries for the one with a JSON body
TWILIO_TOKEN, TWILIO_URL = "12345", "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO = request(
    b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212",
    {
        "X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
        "Content-Type": "application/x-www-form-urlencoded",
    },
    url=TWILIO_URL,
)
TWILIO_JSON = request(
    b'{"property": "value", "boolean": true}',
    {"X-Twilio-Signature": "a9nBmqA0ju/hNViExpshrM61xv4=", "Content-Type": "application/json"},
    url=f"{TWILIO_URL}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
)
# Stripe and Shopify publish how they sign, and no example with its secret: these are signed as they say.
STRIPE_SECRET, STRIPE_AT_S = "whsec_test", 1492774577
STRIPE_BODY = b'{"id": "evt_1", "object": "event"}'
STRIPE = request(
    STRIPE_BODY,
    {
        "Stripe-Signature": f"t={STRIPE_AT_S},v1="
        + hmac.new(STRIPE_SECRET.encode(), b"1492774577." + STRIPE_BODY, "sha256").hexdigest()
        + ",v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39"
    },
)
SHOPIFY_SECRET = "hush"
SHOPIFY = request(
    b'{"id": 1234567890}',
    {
        "X-Shopify-Hmac-Sha256": base64.b64encode(
            hmac.new(b"hush", b'{"id": 1234567890}', hashlib.sha256).digest()
        ).decode(),
        "X-Shopify-Webhook-Id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
    },
)
OWN = request(
    b"{}",
    {"X-Sign": "h=" + hmac.new(b"k", b"7:{}", "sha512").hexdigest(), "X-At": "7", "X-Id": "d1"},
)
# How to make it, its secret, a request, when (s) that was signed, and what its sender calls it.
CASES: dict[str, tuple[Callable[[Any], Verification], str, WebhookRequest, int, str | None]] = {
    "github": (verify.github, GITHUB_SECRET, GITHUB, 0, "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
    "slack": (verify.slack, SLACK_SECRET, SLACK, SLACK_AT_S, None),
    "standard": (
        verify.standard_webhooks,
        STANDARD_SECRET,
        STANDARD,
        STANDARD_AT_S,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ),
    "twilio": (verify.twilio, TWILIO_TOKEN, TWILIO, 0, None),
    "twilio, JSON": (verify.twilio, TWILIO_TOKEN, TWILIO_JSON, 0, None),
    "stripe": (verify.stripe, STRIPE_SECRET, STRIPE, STRIPE_AT_S, "evt_1"),
    "shopify": (verify.shopify, SHOPIFY_SECRET, SHOPIFY, 0, "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"),
    "hmac": (
        lambda secret: verify.hmac(
            secret,
            header="X-Sign",
            algorithm="sha512",
            prefix="h=",
            timestamp="X-At",
            separator=":",
            delivery="X-Id",
        ),
        "k",
        OWN,
        7,
        "d1",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_signature_passes_for_its_body_its_secret_and_its_time_only(name: str) -> None:
    make, secret, given, at_s, delivery = CASES[name]
    verification = make(secret)
    assert passes(verification, given, at_s=at_s)
    assert verification.delivery_id(given) == delivery
    assert isinstance(verification, Signed)
    header = verification.header
    other = "whsec_" + base64.b64encode(b"another").decode() if name == "standard" else "another"
    assert not passes(make(other), given, at_s=at_s)
    assert passes(make([other, secret]), given, at_s=at_s), "while a secret is replaced, both count"
    for changed in (
        altered(given, given.raw + b" "),
        altered(given, b""),
        altered(given, None, **{header: ""}),
        altered(given, None, **{header: "sha256=zz"}),
        altered(given, None, **{header: "\u00e9"}),
    ):
        assert not passes(verification, changed, at_s=at_s)


@pytest.mark.parametrize("name", ["slack", "standard", "stripe", "hmac"])
def test_a_request_can_be_sent_again_for_five_minutes_only(name: str) -> None:
    make, secret, given, at_s, _ = CASES[name]
    for distance_s, is_fine in ((300, True), (-300, True), (301, False), (-301, False)):
        assert passes(make(secret), given, at_s=at_s + distance_s) is is_fine
    assert passes(verify.stripe(STRIPE_SECRET, tolerance="1h"), STRIPE, at_s=STRIPE_AT_S + 3_000)


@pytest.mark.parametrize("at", ["", "now", "-1", "1e9", "\u0661", "9" * 20])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    assert not passes(
        verify.slack(SLACK_SECRET), altered(SLACK, x_slack_request_timestamp=at), at_s=SLACK_AT_S
    )
    assert not passes(verify.stripe(STRIPE_SECRET), altered(STRIPE, stripe_signature=f"t={at},v1=00"), at_s=0)


def test_one_of_several_signatures_is_enough() -> None:
    """While the sender replaces its secret."""
    good = STANDARD.headers["webhook-signature"]
    given = altered(STANDARD, webhook_signature=f"v1,AAAA v1a,xxxx {good}")
    assert passes(verify.standard_webhooks(STANDARD_SECRET), given, at_s=STANDARD_AT_S)
    given = altered(STRIPE, stripe_signature=STRIPE.headers["stripe-signature"].replace("v1=", "v1=00,v1="))
    assert passes(verify.stripe(STRIPE_SECRET), given, at_s=STRIPE_AT_S)


def test_a_body_that_is_no_form_is_not_left_unsigned_at_twilio() -> None:
    """The signature is of the address alone: without the body's hash in it, any body would pass."""
    given = request(b"{}", {**TWILIO.headers, "content-type": "application/json"}, url=TWILIO_URL)
    signature = base64.b64encode(hmac.new(b"12345", TWILIO_URL.encode(), "sha1").digest()).decode()
    assert not passes(verify.twilio(TWILIO_TOKEN), altered(given, x_twilio_signature=signature))


def test_behind_a_proxy_the_address_that_twilio_calls_is_told() -> None:
    inside = request(TWILIO.raw, TWILIO.headers, url="http://10.0.0.7:8288/webhooks/shop/calls?foo=1&bar=2")
    assert not passes(verify.twilio(TWILIO_TOKEN), inside)
    assert passes(verify.twilio(TWILIO_TOKEN, url="https://mycompany.com/myapp.php"), inside)


def test_slack_gets_its_challenge_back() -> None:
    asked = request(b'{"type": "url_verification", "challenge": "3eZbrw1a"}', {})
    assert verify.slack("s").reply(asked) == {"challenge": "3eZbrw1a"}
    assert verify.slack("s").reply(SLACK) is None


@pytest.mark.parametrize("secret", ["", [], [""], b"", ["s", ""], None, [7]])
def test_a_secret_that_is_none_is_refused(secret: object) -> None:
    with pytest.raises((ConfigError, TypeError)):
        verify.github(secret)  # type: ignore[arg-type]


def test_what_is_refused_never_shows_a_secret() -> None:
    with pytest.raises(ConfigError) as refused:
        verify.standard_webhooks("whsec_not base64!")
    assert "not base64" not in str(refused.value)
    for make, secret, given, *_ in CASES.values():
        with pytest.raises(Unverified) as error:
            make(secret).check(altered(given, b"other"), 10**13)
        assert len(secret) < 6 or secret not in f"{error.value}{make(secret)!r}{vars(error.value)}"


def test_an_algorithm_or_encoding_that_does_not_exist_is_refused() -> None:
    for options in ({"algorithm": "sha0"}, {"encoding": "morse"}):
        with pytest.raises(ConfigError):
            verify.hmac("k", header="x", **options)  # type: ignore[arg-type]
