"""Encrypts the fields of an event that an app's codecs name, and decrypts them in an event that was received. Rule S12.2.

Names, ids, headers and all other fields stay as they are: the router reads them, for keys and matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from taskflow.codecs.codecs import Codecs
from taskflow.codecs.encryption import Encryption
from taskflow.codecs.envelope import ENCRYPTED, KEY, STRATEGY, encrypted, is_encrypted
from taskflow.errors import DecodeError
from taskflow.types import JsonObject
from taskflow.values.json import from_json, to_json

WireT = TypeVar("WireT", bound=Mapping[str, Any])

# Events that taskflow sends of the end of a run: `data.error` is what is stored of an error, `data.event` is the run's event.
TELLS_OF_END = ("taskflow/function.failed", "taskflow/function.cancelled")
MARKS = (ENCRYPTED, STRATEGY, KEY, "data", "size")


def encode_event(codecs: Codecs, wire: WireT, *, what: str) -> WireT:
    """The wire object of an event with its fields encrypted; `wire` itself stays as it is. Raises SerializationError."""
    cipher = codecs.cipher
    if cipher is None:
        return wire
    encoded: Any = wire
    for path in cipher.event_fields:
        encoded = with_member(encoded, path, partial(seal, cipher, what=f"{what}: {'.'.join(path)}"))
    return cast(WireT, encoded)


def without_fields(codecs: Codecs, wire: WireT) -> WireT:
    """The wire object of an event with null in place of the fields that `encode_event` encrypts."""
    if codecs.cipher is None:
        return wire
    told: Any = wire
    for path in codecs.event_fields:
        told = with_member(told, path, lambda value: None)
    return cast(WireT, told)


def seal(cipher: Encryption, value: Any, *, what: str) -> Any:
    # What a sender has encrypted already, or an event that is sent on as it was stored.
    if is_encrypted(value):
        return value
    return from_json(encrypted(cipher.encrypt(to_json(value, what=what)), key_id=cipher.key.id))


def decode_event(
    codecs: Codecs, name: str, data: JsonObject, user: JsonObject | None
) -> tuple[JsonObject, JsonObject | None]:
    """The data and the user of a received event, decrypted. Raises UnknownKey, DecodeError.

    Fields of `data` that another sender has encrypted under other names are decrypted too.
    """
    if is_encrypted(data):
        # Inngest puts members of its own beside those of the envelope.
        data = {
            **{key: value for key, value in data.items() if key not in MARKS},
            **open_member(codecs, data),
        }
    if any(map(is_encrypted, data.values())):
        data = {key: open_member(codecs, value) for key, value in data.items()}
    for path in codecs.event_fields:
        if len(path) > 2 or path[0] == "user":
            whole = with_member({"data": data, "user": user}, path, partial(open_member, codecs))
            data, user = whole["data"], whole["user"]
    return (decode_end(codecs, data), user) if name in TELLS_OF_END else (data, user)


def shown_event(codecs: Codecs, event: JsonObject) -> JsonObject:
    """The wire object of an event, with what is encrypted in it as people can see it here."""
    try:
        data, user = decode_event(codecs, str(event.get("name")), event.get("data") or {}, event.get("user"))
    except DecodeError:
        data, user = shown_members(codecs, event.get("data")), shown_members(codecs, event.get("user"))
    changed = {"data": data} if "data" in event else {}
    return {**event, **changed, **({"user": user} if "user" in event else {})}


def shown_members(codecs: Codecs, value: Any) -> Any:
    """A value in which some members, at any depth, can't be decoded: an `Unread` in their place."""
    if is_encrypted(value):
        return codecs.shown_member(value)
    if isinstance(value, dict):
        return {key: shown_members(codecs, member) for key, member in value.items()}
    return codecs.shown_text(value) if isinstance(value, str) else value


def decode_end(codecs: Codecs, data: JsonObject) -> JsonObject:
    """The data of an event that tells of a run's end."""
    error, event = data.get("error"), data.get("event")
    changed: dict[str, Any] = {}
    if isinstance(error, dict):
        changed["error"] = codecs.opened_error(error)
    if isinstance(event, dict) and isinstance(event.get("data"), dict):
        inner, user = decode_event(codecs, str(event.get("name")), event["data"], event.get("user"))
        changed["event"] = {**event, "data": inner, **({"user": user} if "user" in event else {})}
    return {**data, **changed}


def open_member(codecs: Codecs, value: Any) -> Any:
    return from_json(codecs.opened(value)) if is_encrypted(value) else value


def with_member(value: Any, path: Sequence[str], change: Callable[[Any], Any]) -> Any:
    """The value with the member at the path changed, and copied as far as the path leads; itself when it has no such member."""
    if not path:
        return value if value is None else change(value)
    if not isinstance(value, dict) or path[0] not in value:
        return value
    member = with_member(value[path[0]], path[1:], change)
    return value if member is value[path[0]] else {**value, path[0]: member}
