"""The core: every part of the gateway that knows no transport, room by room, each made from those before it.

All of them share one Redis, the encoder and the decoder. Nothing is asked of these until a request or the queue does.
"""

from __future__ import annotations

import redis.asyncio as redis

from langptune.weights import ReleaseRegistry
from services.gateway.accounts import Accounts
from services.gateway.interactions.histories import Histories
from services.gateway.interactions.store import Interactions
from services.gateway.live import LiveRelease
from services.gateway.peers.decoder import Decoder
from services.gateway.peers.encoder import Encoder
from services.gateway.profiles.erasure import Erasures
from services.gateway.profiles.evidence import EvidenceFinder
from services.gateway.profiles.lengths import LengthCheck
from services.gateway.profiles.store import Profiles
from services.gateway.recommendations.avoid import AvoidPhrases
from services.gateway.recommendations.previews import Previewer
from services.gateway.recommendations.recommender import Recommender
from services.gateway.refresh.queue import RefreshQueue
from services.gateway.settings import GatewaySettings
from services.gateway.writing.worker import Patience, RefreshWorker
from services.gateway.writing.writer import Portions, ProfileWriter


class Core:
    """What the servicers call, and the worker that is to be started and stopped."""

    def __init__(self, settings: GatewaySettings, client: redis.Redis, encoder: Encoder, decoder: Decoder) -> None:
        self.decoder = decoder
        self.live = live = LiveRelease(ReleaseRegistry(client))
        self.queue = queue = RefreshQueue(client, settings.refresh_after)

        self.interactions = interactions = Interactions(client, settings.history_kept)
        self.histories = histories = Histories(interactions, decoder)

        erasures = Erasures(client)
        self.profiles = profiles = Profiles(client, settings.revisions_kept)
        self.lengths = LengthCheck(decoder, live)
        self.evidence = EvidenceFinder(
            client,
            profiles,
            histories,
            decoder,
            live,
            erasures,
            threshold=settings.evidence_threshold,
            history_sent=settings.history_sent,
        )

        self.writer = ProfileWriter(profiles, histories, encoder, live, queue, erasures, _portions(settings))
        self.worker = RefreshWorker(queue, self.writer, settings.refresh_workers, _patience(settings))

        self.avoid = avoid = AvoidPhrases(client)
        self.recommender = Recommender(client, profiles, interactions, histories, decoder, live, avoid, settings.history_ranked)
        self.previewer = Previewer(self.recommender, decoder)

        self.accounts = Accounts(interactions, histories, profiles, erasures, avoid, [queue, self.evidence])


def _portions(settings: GatewaySettings) -> Portions:
    return Portions(settings.history_sent, settings.refresh_segment, settings.refresh_sentences)


def _patience(settings: GatewaySettings) -> Patience:
    return Patience(
        lease=settings.refresh_lease,
        attempts=settings.refresh_attempts,
        backoff=settings.refresh_backoff,
        block=min(1.0, settings.redis_timeout / 2),
    )
