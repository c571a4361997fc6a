"""The encoder as the gateway sees it: the only place that knows its stub.

Raises `langptune.errors` as they are: NotFound for a version that is not there, Unavailable while the service is down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langptune.convert import history_to_proto
from langptune.domain import Interaction
from langptune.rpc import Channel
from langptune.v1 import encoder_pb2, encoder_pb2_grpc


@dataclass(frozen=True, slots=True)
class Written:
    """A profile as the encoder wrote it, and how many interactions it read."""

    text: str
    interactions: int


class Encoder:
    """Writes profiles."""

    def __init__(self, channel: Channel, domain: str, timeout: float) -> None:
        stub_channel: Any = channel  # stubs ask for grpc's own channel type and use only the methods that ours has
        self._stub = encoder_pb2_grpc.EncoderServiceStub(stub_channel)
        self._domain = domain
        self._timeout = timeout

    async def write(self, history: Sequence[Interaction], version: str, seed: int | None) -> Written:
        """A profile of `history` (oldest first) by weights `version`."""
        request = encoder_pb2.GenerateProfileRequest(
            history=history_to_proto(history),
            encoder_version=version,
            options=encoder_pb2.GenerationOptions(seed=seed),
            domain=self._domain,
        )
        response = await self._stub.GenerateProfile(request, timeout=self._timeout)
        return Written(response.text, round(response.coverage * len(history)))
