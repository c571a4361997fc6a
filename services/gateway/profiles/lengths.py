"""Whether the live embedder reads the whole of a text: what stands behind its limit would count for nothing, unseen.

Asked before a user's own words are stored. An embedder that cannot be asked refuses nothing: an edit is worth more than this.
"""

from __future__ import annotations

import structlog

from langptune.errors import InvalidArgument, LangPTuneError
from services.gateway.live import LiveRelease
from services.gateway.peers.decoder import Decoder
from services.gateway.profiles.revision import normalise

log = structlog.get_logger(__name__)


class LengthCheck:
    """Measures texts in the embedder's tokens."""

    def __init__(self, decoder: Decoder, live: LiveRelease) -> None:
        self._decoder = decoder
        self._live = live

    async def check(self, text: str) -> None:
        """Raises InvalidArgument for what is no text (see `normalise`), and for one that the embedder would not read whole."""
        plain = normalise(text)
        pins = await self._live.find()
        if pins is None:
            return
        try:
            read = await self._decoder.coverage(plain, pins.decoder_version)
        except InvalidArgument:
            raise
        except LangPTuneError as error:
            log.warning("length of a text not checked", error=error.message)
            return
        if read < 1.0:
            raise InvalidArgument("text", f"is too long: the embedder reads the first {read:.0%} of it and no more")
