"""The entrance as the settings want it: a guard with its keys and limits, or none where auth is off."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from services.gateway.identity.guard import Guard
from services.gateway.identity.keys import Keys, KeySet, SharedSecret
from services.gateway.identity.limits import Limiter
from services.gateway.identity.policy import check_complete
from services.gateway.identity.tokens import TokenChecker
from services.gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)


class Entrance:
    """What every call comes through."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._keys = _keys(settings)
        self._limiter = Limiter(
            (settings.gateway_limits_url or settings.redis_url).get_secret_value(),
            per_user=settings.gateway_user_rate,
            per_key=settings.gateway_key_rate,
        )

    def interceptors(self, served: Iterable[ServiceDescriptor]) -> list[grpc.aio.ServerInterceptor]:
        """What stands in front of the servicers; the table of rights must know every method of `served`."""
        settings = self._settings
        check_complete(served)
        if settings.gateway_auth == "off":
            return []
        checker = TokenChecker(
            self._keys,
            issuer=settings.gateway_token_issuer,
            audience=settings.gateway_token_audience,
            leeway=settings.gateway_token_leeway,
        )
        return [Guard(checker, self._limiter)]

    async def open(self) -> None:
        """Read the keys. Raises FailedPrecondition for a key set that cannot be read."""
        if self._settings.gateway_auth == "jwt":
            await self._keys.load()
        else:
            log.warning("auth is off: everybody on this machine may do everything", host=self._settings.host)

    async def close(self) -> None:
        """Close the connections of the limits."""
        await self._limiter.close()


def _keys(settings: GatewaySettings) -> Keys:
    if settings.gateway_jwks:
        return KeySet(settings.gateway_jwks)
    return SharedSecret(settings.gateway_jwt_secret.get_secret_value())
