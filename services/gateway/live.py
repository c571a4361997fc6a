"""The live release as it stands now: the pointer is read from Redis for every request, so that a publish is followed at once.

What a release pins never changes, so that is read once.
"""

from __future__ import annotations

from dataclasses import dataclass

from langptune.errors import FailedPrecondition
from langptune.weights import ReleaseRegistry


@dataclass(frozen=True, slots=True)
class Pins:
    """The versions behind a revision or a ranking; all empty while no release is live."""

    encoder_version: str = ""
    decoder_version: str = ""
    release_id: str = ""


class LiveRelease:
    """Which versions answer users."""

    def __init__(self, registry: ReleaseRegistry) -> None:
        self._registry = registry
        self._last = Pins()

    async def find(self) -> Pins | None:
        """The live release's versions; None before the first release."""
        return await self.pins(await self._registry.live_id())

    async def pins(self, release_id: str) -> Pins | None:
        """`find`, where the live release's id is known already ("" before the first)."""
        if not release_id:
            return None
        if release_id != self._last.release_id:
            release = await self._registry.get(release_id)
            self._last = Pins(release.encoder_version, release.decoder_version, release.release_id)
        return self._last

    async def require(self) -> Pins:
        """Raises FailedPrecondition before the first release."""
        pins = await self.find()
        if pins is None:
            raise FailedPrecondition("no release is live yet; publish one first", reason="NO_LIVE_RELEASE")
        return pins
