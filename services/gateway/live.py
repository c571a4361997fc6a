"""The live release as it stands now: read from Redis for every request, so that a publish is followed at once."""

from __future__ import annotations

from langptune.errors import FailedPrecondition, NotFound
from langptune.weights import ReleaseRegistry
from services.gateway.profiles import Pins


class LiveRelease:
    """Which versions answer users."""

    def __init__(self, registry: ReleaseRegistry) -> None:
        self._registry = registry

    async def find(self) -> Pins | None:
        """The live release's versions; None before the first release."""
        try:
            release = await self._registry.live()
        except NotFound:
            return None
        return Pins(release.encoder_version, release.decoder_version, release.release_id)

    async def require(self) -> Pins:
        """Raises FailedPrecondition before the first release."""
        pins = await self.find()
        if pins is None:
            raise FailedPrecondition("no release is live yet; publish one first", reason="NO_LIVE_RELEASE")
        return pins
