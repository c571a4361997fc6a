"""What users never want: a short list of phrases per user, heeded by every ranking from the next one on.

One hash per user, case-folded phrase -> the phrase as it was first written, so adding and removing are idempotent. It is the
user's and not the profile's: it needs no profile, outlives every revision, and changes no etag. What a phrase does is the
decoder's business (docs/ranking.md).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import redis.asyncio as redis

from langptune.convert import check_id, check_text
from langptune.errors import FailedPrecondition, InvalidArgument
from langptune.state import Read

MAX_PHRASES = 20  # that one ranking heeds
_MAX_LENGTH = 200  # characters
_KEY = "langptune:avoid:{}"

# KEYS: the phrases. ARGV: folded phrase, phrase, most. Returns whether it is there now.
_ADD = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
"""


class AvoidPhrases:
    """All users' phrases."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client
        self._add = client.register_script(_ADD)

    async def add(self, user_id: str, phrase: str) -> list[str]:
        """All phrases, with this one. Raises InvalidArgument, and FailedPrecondition when MAX_PHRASES are there already."""
        phrase = normalise(phrase, "phrase")
        if not await self._add(keys=[_key(user_id)], args=[phrase.casefold(), phrase, MAX_PHRASES]):
            raise FailedPrecondition(f"at most {MAX_PHRASES} phrases can be avoided; remove one first", reason="AVOID_FULL")
        return await self.find(user_id)

    async def remove(self, user_id: str, phrase: str) -> list[str]:
        """All phrases, without this one. Raises InvalidArgument."""
        await self._redis.hdel(_key(user_id), normalise(phrase, "phrase").casefold())
        return await self.find(user_id)

    async def find(self, user_id: str) -> list[str]:
        """The user's phrases in alphabetical order. Raises InvalidArgument for a bad user id."""
        return await self.phrases(user_id).by(self._redis)

    def phrases(self, user_id: str) -> Read[list[str]]:
        """`find`, to be asked together with others."""
        return Read(("HVALS", _key(user_id)), _in_order)

    async def forget(self, user_id: str) -> None:
        """Remove all of them."""
        await self._redis.delete(_key(user_id))


def _in_order(stored: Sequence[bytes]) -> list[str]:
    return sorted((phrase.decode() for phrase in stored), key=lambda phrase: (phrase.casefold(), phrase))


def together(own: Sequence[str], further: Iterable[str]) -> list[str]:
    """The user's phrases and those of one request, each once. Raises InvalidArgument naming `avoid`."""
    phrases = {phrase.casefold(): phrase for phrase in own}
    for at, phrase in enumerate(further):
        checked = normalise(phrase, f"avoid[{at}]")
        phrases.setdefault(checked.casefold(), checked)
    if len(phrases) > MAX_PHRASES:
        raise InvalidArgument("avoid", f"makes {len(phrases)} phrases with the user's own; at most {MAX_PHRASES} are heeded")
    return list(phrases.values())


def normalise(phrase: str, field: str) -> str:
    """NFC, one space between words. Raises InvalidArgument for what is no phrase of 1 to 200 characters."""
    plain = " ".join(check_text(field, unicodedata.normalize("NFC", phrase)).split())
    return check_text(field, plain, low=1, high=_MAX_LENGTH)


def _key(user_id: str) -> str:
    return _KEY.format(check_id("user_id", user_id))
