"""What a user may ask about their own data: a copy of all of it, and that it is forgotten.

Every store that keeps something per user has `forget`; deleting calls one after the other, so it may be broken off anywhere and
is then called again. The history goes first, and with it a mark: a profile that was begun before is not stored any more, and none
can be begun after. What was learned from the data (weights) and what lies elsewhere (logs, data sets) is not reached
(docs/security.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from langptune.convert import check_id
from langptune.domain import Item
from langptune.errors import NotFound, Unavailable
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import Entry, Interactions
from services.gateway.profiles.erasure import Erasures
from services.gateway.profiles.marks import Marks
from services.gateway.profiles.revision import Revision, Suggestion
from services.gateway.profiles.store import Profiles
from services.gateway.recommendations.avoid import AvoidPhrases

_PAGE = 100  # records read at a time


class Store(Protocol):
    """Keeps something per user."""

    async def forget(self, user_id: str) -> object:
        """Remove all that is kept of a user. Idempotent."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What there was."""

    interactions: int
    revisions: int


Record = tuple[Entry, Item | None] | Revision | Suggestion | Marks | str  # a phrase that is avoided


class Accounts:
    """All that is kept of a user."""

    def __init__(
        self,
        interactions: Interactions,
        histories: Histories,
        profiles: Profiles,
        erasures: Erasures,
        avoid: AvoidPhrases,
        others: Sequence[Store] = (),
    ) -> None:
        """`others`: further stores, of what is made from history and profile."""
        self._interactions = interactions
        self._histories = histories
        self._profiles = profiles
        self._erasures = erasures
        self._avoid = avoid
        self._others = others

    async def export(self, user_id: str) -> AsyncIterator[Record]:
        """Interactions and revisions, both newest first; suggestion; marks; what is avoided. Raises InvalidArgument."""
        check_id("user_id", user_id)
        async for entry in self._entries(user_id):
            yield entry
        async for revision in self._revisions(user_id):
            yield revision
        if suggestion := await self._profiles.suggestion(user_id):
            yield suggestion
        yield await self._profiles.marks(user_id)
        for phrase in await self._avoid.find(user_id):
            yield phrase

    async def delete(self, user_id: str) -> Forgotten:
        """Forget the user. Raises InvalidArgument."""
        check_id("user_id", user_id)
        interactions = await self._interactions.forget(user_id)
        await self._erasures.mark(user_id)
        revisions = await self._profiles.forget(user_id)
        for store in (self._avoid, *self._others):
            await store.forget(user_id)
        return Forgotten(interactions, revisions)

    async def _entries(self, user_id: str) -> AsyncIterator[tuple[Entry, Item | None]]:
        token = ""
        while True:
            try:
                page, following, _ = await self._histories.page(user_id, _PAGE, token)
            except Unavailable:  # the decoder, whose the items are
                entries, following, _ = await self._interactions.page(user_id, _PAGE, token)
                page = [(entry, None) for entry in entries]
            for entry in page:
                yield entry
            if not following:
                return
            token = following

    async def _revisions(self, user_id: str) -> AsyncIterator[Revision]:
        token = ""
        while True:
            try:
                page, token = await self._profiles.revisions(user_id, _PAGE, token)
            except NotFound:  # there is no profile
                return
            for revision in page:
                yield revision
            if not token:
                return
