"""No user id in a log: a call's lines carry a keyed hash of it as `user`, and the id itself is taken out of whatever they say.

So does a line that is written with `user_id=...` outside a call.

With one LANGPTUNE_LOG_KEY for all replicas a person's lines can be found by whoever holds the key, and by nobody else; without
one, each process makes its own at its start, so that lines can be told apart and nothing more.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from google.protobuf.message import Message

_FIELD = "user_id"
_HASH_BYTES = 8  # 16 hex digits
_key = secrets.token_bytes(32)
_user_id: ContextVar[str] = ContextVar("langptune_user_id", default="")  # of this call; never logged
_PLAIN = ("event", "level", "service", "method", "code", "user", "request_id", "timestamp")  # never hold an id


def use_key(key: str) -> None:
    """Hash with `key` from now on; "" keeps this process's own."""
    global _key
    if key:
        _key = hashlib.blake2b(key.encode(), digest_size=32).digest()


def pseudonym(user_id: str) -> str:
    """16 hex digits for a user id; always the same under one key."""
    return hashlib.blake2b(user_id.encode(), digest_size=_HASH_BYTES, key=_key).hexdigest()


def bind_user(request: Any) -> None:
    """Take the user of a call from its message, if it names one; to be called in the call's own task."""
    named = isinstance(request, Message) and _FIELD in request.DESCRIPTOR.fields_by_name
    user_id: str = getattr(request, _FIELD) if named else ""
    _user_id.set(user_id)
    if user_id:
        structlog.contextvars.bind_contextvars(user=pseudonym(user_id))


def without_user(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: the user id that the line names, or its call, becomes `user`, its pseudonym, in every text."""
    if _FIELD in event:
        user_id = str(event.pop(_FIELD))
        event["user"] = pseudonym(user_id)
        _replace(event, user_id)
    if user_id := _user_id.get():
        _replace(event, user_id)
    return event


def _replace(event: MutableMapping[str, Any], user_id: str) -> None:
    for name in [name for name, value in event.items() if isinstance(value, str) and user_id and user_id in value]:
        if name not in _PLAIN:
            event[name] = re.sub(rf"(?<![\w:-]){re.escape(user_id)}(?![\w:-])", pseudonym(user_id), event[name])
