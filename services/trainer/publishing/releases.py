"""What ReleaseService does, without its transport: look, publish, go back, verify, prune; and the first release of all.

Going back means: to what was live before the live release was published. Going back twice therefore returns to where it began;
what is older is reached by publishing it.
"""

from __future__ import annotations

import asyncio

import structlog

from langptune.errors import FailedPrecondition, InvalidArgument, NotFound
from langptune.weights import Move, Release, ReleaseRegistry, WeightsStore
from services.trainer.publishing.gate import Finding, Gate
from services.trainer.publishing.publication import Publication
from services.trainer.publishing.publisher import Order, Publisher
from services.trainer.publishing.verification import Check, Verifier
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)

_PAGE = 100  # releases looked through at once


class Releases:
    """The registry with everything that guards it."""

    def __init__(self, registry: ReleaseRegistry, publisher: Publisher, gate: Gate, verifier: Verifier) -> None:
        self.registry = registry
        self.publisher = publisher
        self._gate = gate
        self._verifier = verifier

    async def publish(self, order: Order) -> tuple[Release, Publication]:
        """Make a release live. Raises what PublishRelease promises."""
        publication = await self.publisher.publish(order)
        return await self.registry.get(order.release_id), publication

    async def roll_back(self, *, actor: str, reason: str) -> tuple[Release, Publication]:
        """Make the release live that was live before. FailedPrecondition: none. Aborted: somebody else moves, too."""
        live = await self.registry.live()  # read first: a move after this makes the one below fail, never go wrong
        previous = await self.registry.previous()
        why = reason or f"rollback of {live.release_id}"
        return await self.publish(Order(previous, expected=live.release_id, actor=actor, reason=why))

    async def check_gate(self, release_id: str) -> Finding:
        """What the gate says of a release now."""
        return await self._gate.check(await self.registry.get(release_id), await self.registry.live())

    async def verify(self, release_id: str) -> tuple[Release, list[Check]]:
        """Every replica held against a release; "" is the live one."""
        release = await self.registry.get(release_id) if release_id else await self.registry.live()
        if release.retired:
            raise FailedPrecondition(f"the weights of {release_id} have been removed", reason="RELEASE_RETIRED")
        return release, await self._verifier.verify(release)

    async def page(self, size: int, page_token: str) -> tuple[list[Release], str]:
        """Up to `size` releases, newest first, and the token of the next page. Raises InvalidArgument: page_token."""
        if page_token and not (page_token[0] == "r" and page_token[1:].isascii() and page_token[1:].isdigit()):
            raise InvalidArgument("page_token", "is not one that ListReleases gave")
        found = await self.registry.page(size + 1, page_token)
        return found[:size], found[size - 1].release_id if len(found) > size else ""

    async def moves(self, size: int, page_token: str) -> tuple[list[Move], str]:
        """Up to `size` moves of the pointer, newest first, and the token of the next page. Raises InvalidArgument: page_token."""
        if page_token and not (page_token.isascii() and page_token.isdigit()):
            raise InvalidArgument("page_token", "is not one that ListReleaseMoves gave")
        start = int(page_token or "0")
        found = await self.registry.history(size + 1, start)
        return found[:size], str(start + size) if len(found) > size else ""

    async def live_id(self) -> str:
        """The live release's id, "" for none."""
        try:
            return (await self.registry.live()).release_id
        except NotFound:
            return ""


async def bootstrap(registry: ReleaseRegistry, store: WeightsStore, settings: TrainerSettings) -> None:
    """Make the base models the first release, if none is live. Safe when several trainers do it at once.

    Raises FailedPrecondition when a base model's folder is missing.
    """
    encoder = await asyncio.to_thread(store.ensure_base, "encoder", settings.profile_model)
    decoder = await asyncio.to_thread(store.ensure_base, "decoder", settings.embedding_model)
    live = await registry.ensure_first(encoder.version, decoder.version, reason="first start: the base models")
    log.info("live release", release=live.release_id, encoder=live.encoder_version, decoder=live.decoder_version)


async def release_of_job(registry: ReleaseRegistry, job_id: str) -> Release | None:
    """The candidate that a job made, if it has."""
    before = ""
    while page := await registry.page(_PAGE, before):
        for release in page:
            if release.job_id == job_id:
                return release
        before = page[-1].release_id
    return None
