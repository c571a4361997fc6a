"""The gateway's channels: to the encoder and the decoder behind a breaker each, to the trainer, and to the gateway itself.

Needs no peer to be there: each is reached when a request asks for it.
"""

from __future__ import annotations

from langptune.rpc import Channel, open_channel
from langptune.rpc.breaker import Breaker
from langptune.rpc.tls import Tls, peer_tls
from services.gateway.peers.decoder import Decoder
from services.gateway.peers.encoder import Encoder
from services.gateway.settings import GatewaySettings


class Channels:
    """Opens channels, and closes all of them together."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._open: list[Channel] = []
        self._encoder, self._decoder = self.breakers = tuple(
            Breaker(peer, failures=settings.breaker_failures, rest=settings.breaker_rest) for peer in ("encoder", "decoder")
        )

    def encoder(self) -> Encoder:
        """What writes profiles."""
        settings = self._settings
        return Encoder(self._peer(settings.encoder_address, self._encoder), settings.domain, settings.encoder_timeout)

    def decoder(self) -> Decoder:
        """What ranks, and keeps the catalogue."""
        settings = self._settings
        return Decoder(self._peer(settings.decoder_address, self._decoder), settings.import_timeout)

    def trainer(self) -> Channel:
        """Where operators' RPCs are passed on to."""
        return self._peer(self._settings.trainer_address)

    def own(self, address: str) -> Channel:
        """To the gateway's own gRPC at an address that only this process knows."""
        return self._to(address)

    async def close(self) -> None:
        """Close all that were opened."""
        for channel in self._open:
            await channel.close()

    def _peer(self, address: str, breaker: Breaker | None = None) -> Channel:
        return self._to(address, breaker, peer_tls(self._settings))

    def _to(self, address: str, breaker: Breaker | None = None, tls: Tls | None = None) -> Channel:
        channel = open_channel(
            address,
            timeout=self._settings.call_timeout,
            max_message_bytes=self._settings.max_message_bytes,
            breaker=breaker,
            tls=tls,
        )
        self._open.append(channel)
        return channel
