"""Every replica behind the address of a service: a version must be loaded, checked and forgotten on each, not on one of them.

An address is "host:port", whose name may resolve to many machines (a headless Service on Kubernetes), or gRPC's own form of
several, "ipv4:10.0.0.1:50052,10.0.0.2:50052". Ordinary calls go through `Peers`, which lets gRPC choose a replica.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from typing import Any

from langptune.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from langptune.rpc import Channel, open_channel
from langptune.rpc.tls import peer_tls
from langptune.v1 import decoder_pb2, decoder_pb2_grpc, encoder_pb2, encoder_pb2_grpc
from langptune.weights import ANY_TEXT, Golden, Kind
from services.trainer.settings import TrainerSettings


@dataclass(frozen=True, slots=True)
class Found:
    """What a replica says that it holds of a version."""

    digest: str  # of the files as they lie on its disk now; "" for a base version
    golden_log_prob: float | None = None  # nats; encoder only
    items: int = 0  # in the index; decoder only
    catalogue_items: int = 0  # decoder only
    overlap: float | None = None  # of sampled rankings with exact ones; None for an empty catalogue


_COMES_BACK = 5.0  # seconds


class Replica:
    """One process of the encoder or the decoder."""

    def __init__(self, kind: Kind, address: str, channel: Channel, load_timeout: float) -> None:
        self.kind = kind
        self.address = address
        self.channel = channel
        self._load_timeout = load_timeout
        stub_channel: Any = channel  # stubs ask for grpc's own channel type and use only the methods that ours has
        self._encoder = encoder_pb2_grpc.EncoderServiceStub(stub_channel)
        self._decoder = decoder_pb2_grpc.DecoderServiceStub(stub_channel)

    async def load(self, version: str) -> None:
        """Return once it can use `version`. Raises what LoadEncoderVersion and LoadDecoderVersion raise.

        One that has just come back is waited for: a connection rests for up to two seconds after a failure.
        """
        try:
            await self.channel.ready(_COMES_BACK)
        except DeadlineExceeded:
            raise Unavailable(f"the {self.kind} at {self.address} cannot be reached") from None
        if self.kind == "encoder":
            request = encoder_pb2.LoadEncoderVersionRequest(encoder_version=version)
            await self._encoder.LoadEncoderVersion(request, timeout=self._load_timeout)
            return
        done = False
        load = decoder_pb2.LoadDecoderVersionRequest(decoder_version=version)
        async for progress in self._decoder.LoadDecoderVersion(load, timeout=self._load_timeout):
            done = progress.done
        if not done:
            raise FailedPrecondition(f"the decoder ended before version {version} was loaded", reason="VERSION_NOT_LOADED")

    async def unload(self, version: str) -> None:
        """Forget a version once nobody uses it."""
        if self.kind == "encoder":
            await self._encoder.UnloadEncoderVersion(encoder_pb2.UnloadEncoderVersionRequest(encoder_version=version))
        else:
            await self._decoder.UnloadDecoderVersion(decoder_pb2.UnloadDecoderVersionRequest(decoder_version=version))

    async def versions(self) -> set[str]:
        """The versions that it can use now."""
        if self.kind == "encoder":
            answer = await self._encoder.ListEncoderVersions(encoder_pb2.ListEncoderVersionsRequest())
            return set(answer.encoder_versions)
        listed = await self._decoder.ListDecoderVersions(decoder_pb2.ListDecoderVersionsRequest())
        return {entry.decoder_version for entry in listed.decoder_versions}

    async def verify(self, version: str, golden: Golden) -> Found:
        """What it holds of a version; an encoder scores `golden`. Raises NotFound for a version that is not loaded."""
        if self.kind == "encoder":
            encoder = await self._verify_encoder(version, golden)
            return Found(encoder.digest, golden_log_prob=encoder.log_prob if encoder.HasField("log_prob") else None)
        decoder = await self._decoder.VerifyDecoderVersion(
            decoder_pb2.VerifyDecoderVersionRequest(decoder_version=version), timeout=self._load_timeout
        )
        return Found(
            decoder.digest,
            items=decoder.items,
            catalogue_items=decoder.catalogue_items,
            overlap=decoder.overlap if decoder.HasField("overlap") else None,
        )

    async def _verify_encoder(self, version: str, golden: Golden) -> encoder_pb2.VerifyEncoderVersionResponse:
        request = encoder_pb2.VerifyEncoderVersionRequest(
            encoder_version=version,
            prompt_token_ids=golden.prompt_token_ids,
            response_token_ids=golden.response_token_ids,
        )
        found: encoder_pb2.VerifyEncoderVersionResponse
        try:
            found = await self._encoder.VerifyEncoderVersion(request, timeout=self._load_timeout)
        except FailedPrecondition as error:
            if golden is not ANY_TEXT or error.reason != "TEXT_ROUND_TRIP":
                raise
            request = encoder_pb2.VerifyEncoderVersionRequest(encoder_version=version)  # a text engine cannot score any tokens
            found = await self._encoder.VerifyEncoderVersion(request, timeout=self._load_timeout)
        return found


class Replicas:
    """Looks the addresses up anew for every use, and keeps a channel to each."""

    def __init__(self, settings: TrainerSettings, encoder_address: str = "") -> None:
        """`encoder_address`: of other encoders than those that answer users."""
        self._settings = settings
        encoder = encoder_address or settings.encoder_address
        self._targets: dict[Kind, str] = {"encoder": encoder, "decoder": settings.decoder_address}
        self._known: dict[tuple[Kind, str], Replica] = {}

    async def of(self, kind: Kind) -> list[Replica]:
        """All replicas of a service. Raises Unavailable for a name that resolves to nothing."""
        return [self._replica(kind, address) for address in await addresses(self._targets[kind])]

    async def close(self) -> None:
        """Close all channels."""
        await asyncio.gather(*(replica.channel.close() for replica in self._known.values()))

    def _replica(self, kind: Kind, address: str) -> Replica:
        if (kind, address) not in self._known:
            settings = self._settings
            channel = open_channel(
                address,
                timeout=settings.call_timeout,
                max_message_bytes=settings.max_message_bytes,
                tls=peer_tls(settings),
                server_name=_host(self._targets[kind]),  # certificates name the service, not a replica's address
            )
            self._known[kind, address] = Replica(kind, address, channel, settings.load_timeout)
        return self._known[kind, address]


async def addresses(target: str) -> list[str]:
    """Every host:port that `target` stands for, sorted. Where a name has IPv4 addresses, its IPv6 ones are the same machines."""
    scheme, separator, rest = target.partition(":")
    if separator and scheme in ("ipv4", "ipv6"):
        return sorted(address for address in rest.split(",") if address)
    _, _, port = target.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(_host(target), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"the address {target} cannot be resolved: {error.strerror or error}", reason="NAME_UNKNOWN") from error
    narrow = sorted({f"{info[4][0]}:{port}" for info in found if info[0] == socket.AF_INET})
    return narrow or sorted({f"[{info[4][0]}]:{port}" for info in found})


def _host(target: str) -> str:
    """The name in `target`; "" where it lists addresses of several machines."""
    return "" if target.startswith(("ipv4:", "ipv6:")) else target.removeprefix("dns:").lstrip("/").rpartition(":")[0].strip("[]")
