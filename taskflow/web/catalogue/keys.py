"""Operations on keys: create, list, revoke. Several are valid at once: to replace one, create, deploy, revoke. Rule S14.4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from taskflow.values.keywords import did_you_mean
from taskflow.web.catalogue.fields import wanted
from taskflow.web.catalogue.key import Key, make_key
from taskflow.web.catalogue.operation import Desk, Scope, operation
from taskflow.web.catalogue.overview import Nothing
from taskflow.web.catalogue.problems import Kind, Problem


class RateJson(TypedDict):
    """So many events in so many ms."""

    limit: int
    period_ms: int


class KeyJson(TypedDict):
    """What is known of a key. `scope` is null for an event key; `used_ms` is right to a minute. Times are ms since the epoch."""

    name: str
    begins: str
    scope: Scope | None
    allow: list[str]
    rate: RateJson | None
    created_ms: int
    expires_ms: int | None
    is_expired: bool
    used_ms: int | None


class KeyListJson(TypedDict):
    """All keys, by name."""

    keys: list[KeyJson]


class CreatedKeyJson(TypedDict):
    """A new key. The key itself is shown only here: the store has no more than its digest."""

    key: str
    known: KeyJson


class RevokedKeyJson(TypedDict):
    """The key that is not valid any more."""

    name: str


@dataclass(frozen=True, slots=True)
class CreateKey:
    name: str = wanted("What it is called: by whom or where it is used.", max_chars=64)
    scope: Scope | None = wanted("What an API key allows. Without it the key is an event key.", default=None)
    allow: tuple[str, ...] = wanted(
        "Names of events that an event key may send; shop/* stands for many.", default=()
    )
    rate: str | None = wanted("How many events it may send: 100/s, 1000/5m.", default=None)
    expires: str | None = wanted("How long it is valid: 90d.", default=None)


@dataclass(frozen=True, slots=True)
class RevokeKey:
    name: str = wanted("The name of the key.", max_chars=64)


@operation("keys.list", "GET", "/keys", Scope.ADMIN)
async def list_keys(desk: Desk, request: Nothing) -> KeyListJson:
    """List the keys of clients, with when each was used last."""
    async with desk.store() as (store, moment):
        records, used = await store.clients.keys_of_clients()
    keys = sorted((Key.load(text) for text in records), key=lambda key: key.name)
    return {"keys": [key_json(key, used.get(key.name), moment.now_ms) for key in keys]}


@operation("keys.create", "POST", "/keys", Scope.ADMIN, Kind.KEY_EXISTS)
async def create_key(desk: Desk, request: CreateKey) -> CreatedKeyJson:
    """Make an event key, or with `scope` an API key, and show it once."""
    async with desk.store() as (store, moment):
        text, key = make_key(
            request.name, scope=request.scope, allow=request.allow, rate=request.rate, expires=request.expires, now_ms=moment.now_ms
        )  # fmt: skip
        if not await store.clients.create_key(key.name, key.dump()):
            raise Problem(
                Kind.KEY_EXISTS, f"there is a key {key.name!r}: choose another name, or revoke it first"
            )
    return {"key": text, "known": key_json(key, None, moment.now_ms)}


@operation("keys.revoke", "DELETE", "/keys/{name}", Scope.ADMIN, Kind.KEY_NOT_FOUND)
async def revoke_key(desk: Desk, request: RevokeKey) -> RevokedKeyJson:
    """Make a key invalid, within 2 s in each web process."""
    async with desk.store() as (store, _):
        if not await store.clients.revoke_key(request.name):
            known = [Key.load(text).name for text in (await store.clients.keys_of_clients())[0]]
            raise Problem(
                Kind.KEY_NOT_FOUND, f"there is no key {request.name!r}{did_you_mean(request.name, known)}"
            )
    return {"name": request.name}


def key_json(key: Key, used_ms: int | None, now_ms: int) -> KeyJson:
    rate: RateJson | None = {"limit": key.rate.limit, "period_ms": key.rate.period_ms} if key.rate else None
    return {
        "name": key.name, "begins": key.begins, "scope": key.scope, "allow": list(key.allow), "rate": rate,
        "created_ms": key.created_ms, "expires_ms": key.expires_ms, "is_expired": key.is_over(now_ms), "used_ms": used_ms,
    }  # fmt: skip


OPERATIONS = (list_keys, create_key, revoke_key)
