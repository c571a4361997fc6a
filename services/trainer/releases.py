"""Releases as the trainer makes and moves them: the first one, publishing, and going back.

Publishing loads both versions on both services first and only then moves the one pointer (by compare-and-set), so that no
request ever waits for a load or meets half a release. Going back means: to what was live before the live release was
published. Going back twice therefore returns to where it began; what is older is reached by publishing it.
"""

from __future__ import annotations

import asyncio

import structlog

from langptune.convert import timestamp
from langptune.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from langptune.v1 import common_pb2, trainer_pb2
from langptune.weights.releases import Release, ReleaseRegistry
from langptune.weights.store import Kind, WeightsStore
from services.trainer.peers import Peers
from services.trainer.settings import TrainerSettings

log = structlog.get_logger(__name__)

_PAGE = 100  # releases looked through at once


class Releases:
    """What ReleaseService does."""

    def __init__(self, registry: ReleaseRegistry, peers: Peers) -> None:
        self.registry = registry
        self._peers = peers

    async def publish(self, release_id: str, *, expected: str, reason: str) -> tuple[Release, str]:
        """Make a release live; also returns what was live before. `expected` "" skips the check.

        Raises NotFound, Aborted when another release than `expected` is live, and what loading the versions raises.
        """
        release = await self.registry.get(release_id)
        if expected:
            await self._require_live(expected)
        await self._load(release)
        previous = await self.registry.set_live(release_id, expected=expected or None, reason=reason)
        log.info("release published", release=release_id, previous=previous, reason=reason)
        return release, previous

    async def roll_back(self, reason: str) -> tuple[Release, str]:
        """Make the release live that was live before. FailedPrecondition: none. Aborted: somebody else moves, too."""
        live = await self.registry.live()  # read first: a move after this makes the one below fail, never go wrong
        previous = await self.registry.previous()
        return await self.publish(previous, expected=live.release_id, reason=reason or f"rollback of {live.release_id}")

    async def page(self, size: int, page_token: str) -> tuple[list[Release], str]:
        """Up to `size` releases, newest first, and the token of the next page. Raises InvalidArgument: page_token."""
        if page_token and not (page_token[0] == "r" and page_token[1:].isascii() and page_token[1:].isdigit()):
            raise InvalidArgument("page_token", "is not one that ListReleases gave")
        found = await self.registry.page(size + 1, page_token)
        return found[:size], found[size - 1].release_id if len(found) > size else ""

    async def live_id(self) -> str:
        """The live release's id, "" for none."""
        try:
            return (await self.registry.live()).release_id
        except NotFound:
            return ""

    async def _require_live(self, expected: str) -> None:
        live = await self.live_id()
        if live != expected:
            raise Aborted(f"release {live or 'none'} is live, not {expected}", etag=live)

    async def _load(self, release: Release) -> None:
        pair: list[tuple[Kind, str]] = [("encoder", release.encoder_version), ("decoder", release.decoder_version)]
        await asyncio.gather(*(self._peers.load(kind, version) for kind, version in pair))
        for kind, version in pair:
            if version not in await self._peers.loaded(kind):
                raise FailedPrecondition(
                    f"the {kind} does not hold version {version} after loading it", reason="VERSION_NOT_LOADED"
                )


async def bootstrap(registry: ReleaseRegistry, store: WeightsStore, settings: TrainerSettings) -> None:
    """Make the base models the first release, if none is live. Safe when several trainers do it at once.

    Raises FailedPrecondition when a base model's folder is missing.
    """
    encoder = await asyncio.to_thread(store.ensure_base, "encoder", settings.profile_model)
    decoder = await asyncio.to_thread(store.ensure_base, "decoder", settings.embedding_model)
    try:
        await registry.live()
    except NotFound:
        release = await registry.create(encoder.version, decoder.version)
        try:
            await registry.set_live(release.release_id, expected="", reason="first start: the base models")
            log.info("first release", release=release.release_id, encoder=encoder.version, decoder=decoder.version)
        except Aborted as error:
            log.info("another trainer was first", live=error.etag)


async def release_of_job(registry: ReleaseRegistry, job_id: str) -> Release | None:
    """The candidate that a job made, if it has."""
    before = ""
    while page := await registry.page(_PAGE, before):
        for release in page:
            if release.job_id == job_id:
                return release
        before = page[-1].release_id
    return None


def release_to_proto(release: Release, live_id: str) -> trainer_pb2.Release:
    """The public view."""
    values = release.validation
    return trainer_pb2.Release(
        release_id=release.release_id,
        encoder_version=release.encoder_version,
        decoder_version=release.decoder_version,
        parent_release_id=release.parent_release_id,
        job_id=release.job_id,
        create_time=timestamp(release.create_time_ms),
        validation=common_pb2.RankingMetrics(
            ndcg=values["ndcg"],
            recall=values["recall"],
            mrr=values["mrr"],
            cutoff=int(values["cutoff"]),
            users=int(values["users"]),
        )
        if values
        else None,
        live=release.release_id == live_id,
    )
