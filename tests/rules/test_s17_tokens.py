"""S17.2: a token lets its holder read what it names, until it expires; whatever is changed in it, it opens nothing."""

from __future__ import annotations

from typing import Any

import pytest

from taskflow import Channel, ConfigError, TaskFlow, TokenRefused, Topic
from taskflow.config import Config
from taskflow.realtime.tokens import Grant, TopicGrant, read_token

KEY = "k" * 32


class OrderChannel(Channel, name="order:{order_id}"):
    status = Topic(str)


A1 = OrderChannel(order_id="A1")


@pytest.fixture
def shop() -> TaskFlow:
    return TaskFlow("shop", signing_key=KEY)


def read(app: TaskFlow, token: str, *, key: str = KEY, namespace: str = "tf", later_ms: int = 0) -> Grant:
    return read_token(key, token, namespace=namespace, now_ms=app._link.clock.now_ms() + later_ms)


def test_a_token_says_which_topics_for_how_long_and_for_whom(shop: TaskFlow) -> None:
    grant = read(shop, shop.subscription_token(A1, topics=["status"], ttl="15m", user="ann"))
    assert grant.topics == (TopicGrant("order:A1", "status"),)
    assert grant.user == "ann"
    assert 0 <= grant.expires_ms - shop._link.clock.now_ms() - 15 * 60_000 <= 1_000
    assert grant.names("order:A1") == ("status",)
    assert read(shop, shop.subscription_token(A1)).names("order:A1") == ()


def test_a_token_expires(shop: TaskFlow) -> None:
    token = shop.subscription_token(A1, ttl="15m")
    read(shop, token, later_ms=14 * 60_000)
    with pytest.raises(TokenRefused, match="has expired"):
        read(shop, token, later_ms=15 * 60_000 + 1_000)


def forged(token: str) -> list[str]:
    head, body, signature = token.split(".")
    other = TaskFlow("shop", signing_key="x" * 32).subscription_token("everything")
    return [
        f"{head}.{other.split('.')[1]}.{signature}",
        f"{head}.{body}.{signature[:-2]}",
        f"{head}.{body}.",
        f"eyJhbGciOiJub25lIn0.{body}.",
        other,
        body,
        "",
        "ü.ü.ü",
        "." * 9_000,
    ]


@pytest.mark.parametrize("number", range(9))
def test_a_forged_token_is_refused(shop: TaskFlow, number: int) -> None:
    with pytest.raises(TokenRefused):
        read(shop, forged(shop.subscription_token(A1))[number])


def test_a_token_of_another_deployment_is_refused(shop: TaskFlow) -> None:
    token = shop.subscription_token(A1)
    with pytest.raises(TokenRefused, match="not for namespace 'staging'"):
        read(shop, token, namespace="staging")
    with pytest.raises(TokenRefused, match="not signed with the key"):
        read(shop, token, key="y" * 32)


def test_without_a_key_nothing_is_open(shop: TaskFlow) -> None:
    closed = TaskFlow("shop")
    with pytest.raises(ConfigError, match="TASKFLOW_SIGNING_KEY"):
        closed.subscription_token(A1)
    with pytest.raises(ConfigError, match="TASKFLOW_SIGNING_KEY"):
        read(shop, shop.subscription_token(A1), key="")


@pytest.mark.parametrize("key", ["short", 5, "x" * 513])
def test_a_key_that_is_no_random_text_is_refused_and_not_shown(key: Any) -> None:
    with pytest.raises(ConfigError, match="signing_key must be a random text of 32 to 512") as refusal:
        TaskFlow("shop", signing_key=key)
    assert "short" not in str(refusal.value)
    assert KEY not in repr(Config.resolve("shop", signing_key=KEY))


def test_a_topic_that_the_channel_does_not_have_gets_no_token(shop: TaskFlow) -> None:
    with pytest.raises(ConfigError, match="has no topic 'state'"):
        shop.subscription_token(A1, topics=["state"])
    with pytest.raises(ConfigError, match="1 to 100 topics, got 101"):
        shop.subscription_token("plain", topics=[f"t{number}" for number in range(101)])
