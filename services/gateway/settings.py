"""The gateway's settings: environment variables LANGPTUNE_<NAME>."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from langptune.identity import AUDIENCE, DEVELOPMENT_SECRET, ISSUER, LEAST_SECRET
from langptune.settings import RedisSettings, ServiceSettings
from langptune.text import DEFAULT_DOMAIN


class GatewaySettings(RedisSettings, ServiceSettings):
    """Where the other services are, and how much is kept of what users leave."""

    gateway_port: int = Field(default=50051, ge=1, le=65535, description="port to listen on")
    gateway_metrics_port: int = Field(
        0, ge=0, le=65_535, description="port of the Prometheus metrics (/metrics over HTTP); 0: none are served"
    )
    gateway_http_port: int = Field(
        default=8080, ge=0, le=65535, description="port of the page and of JSON RPCs; 0: neither is served"
    )
    gateway_http_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost"), description="host names that the page may be reached by, a JSON list; * allows any"
    )
    gateway_auth: Literal["off", "jwt"] = Field(
        default="off", description="off: everybody may do everything, on a loopback address in development; jwt: signed tokens"
    )
    gateway_jwks: str = Field(
        default="", description="https URL or file of the JSON Web Key Set that tokens are checked by; empty: the shared secret"
    )
    gateway_jwt_secret: SecretStr = Field(
        default=SecretStr(DEVELOPMENT_SECRET), description="shared secret (HS256) of development tokens, 32 bytes or more"
    )
    gateway_token_issuer: str = Field(default=ISSUER, min_length=1, description="`iss` that tokens must have")
    gateway_token_audience: str = Field(default=AUDIENCE, min_length=1, description="`aud` that tokens must have")
    gateway_token_leeway: float = Field(
        default=30.0, ge=0, le=300, description="seconds that the clocks of issuer and gateway may differ"
    )
    gateway_tls_certificate: str = Field(
        default="", description="PEM file, chain included, that both doors show to clients; empty: TLS ends before the gateway"
    )
    gateway_tls_key: str = Field(default="", description="PEM file of its key")
    gateway_user_rate: int = Field(
        default=300, ge=0, description="calls a minute about one user, who may make as many at once; a refresh counts 20; 0: any"
    )
    gateway_key_rate: int = Field(
        default=6_000, ge=0, description="calls a minute of one program (`client_id` of the token, or the subject with `users`)"
    )
    gateway_limits_url: SecretStr | None = Field(
        default=None, description="a Redis for the limits, which need not be on disk; empty: LANGPTUNE_REDIS_URL's"
    )
    encoder_address: str = Field(default="127.0.0.1:50052", description="host:port of the encoder")
    decoder_address: str = Field(default="127.0.0.1:50053", description="host:port of the decoder")
    trainer_address: str = Field(default="127.0.0.1:50054", description="host:port of the trainer")
    breaker_failures: int = Field(
        default=5, ge=1, le=1_000, description="calls that encoder or decoder leave unanswered in a row before none is tried"
    )
    breaker_rest: float = Field(default=5.0, gt=0, le=600, description="seconds until one is tried again")
    domain: str = Field(
        default=DEFAULT_DOMAIN, min_length=1, max_length=200, description="what the items are, in the plural, for the prompt"
    )
    encoder_timeout: float = Field(default=240.0, gt=0, description="deadline for the writing of one profile, in seconds")
    import_timeout: float = Field(default=3_600.0, gt=0, description="deadline of one catalogue import, in seconds")
    history_kept: int = Field(
        default=10_000, ge=1, le=10_000, description="interactions kept per user; the oldest are dropped beyond it"
    )
    history_sent: int = Field(default=100, ge=1, le=1_000, description="newest interactions sent to the encoder for a profile")
    history_ranked: int = Field(
        default=10, ge=1, le=20, description="newest interactions written out as the query of a user without a profile"
    )
    refresh_after: int = Field(
        default=10, ge=0, le=10_000, description="new interactions after which a profile is written again; 0: only when asked for"
    )
    refresh_segment: int = Field(
        default=0,
        ge=0,
        le=1_000,
        description="interactions of one prompt; of longer histories a profile is merged from segments; 0: one prompt",
    )
    refresh_sentences: int = Field(default=16, ge=1, le=64, description="sentences kept of a merged profile, the newest first")
    refresh_workers: int = Field(
        default=1, ge=0, le=64, description="profiles that this gateway writes at once off the queue; 0: others do"
    )
    refresh_lease: float = Field(
        default=30.0, ge=1, le=3_600, description="seconds of silence after which another worker takes a refresh over"
    )
    refresh_attempts: int = Field(default=5, ge=1, le=20, description="attempts at one refresh before it is given up")
    refresh_backoff: float = Field(
        default=2.0, gt=0, le=600, description="seconds before a second attempt; four times as long before each further one"
    )
    evidence_threshold: float = Field(
        default=0.5,
        description="how near an interaction must be to a sentence to support it, in standard deviations of the catalogue",
    )
    revisions_kept: int = Field(default=1_000, ge=2, le=100_000, description="profile revisions kept per user")

    @property
    def door_files(self) -> tuple[str, str, str]:
        """Callers from outside bring tokens, not certificates."""
        return self.gateway_tls_certificate, self.gateway_tls_key, ""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        """What would let strangers in is refused, with what to change."""
        if bool(self.gateway_tls_certificate) is not bool(self.gateway_tls_key):
            raise ValueError("LANGPTUNE_GATEWAY_TLS_CERTIFICATE and LANGPTUNE_GATEWAY_TLS_KEY go together")
        loopback = is_loopback(self.host)
        if self.gateway_auth == "off":
            if self.environment != "development" or not loopback:
                raise ValueError(
                    "LANGPTUNE_GATEWAY_AUTH=off lets everybody do everything; it is for development on a loopback address "
                    "(LANGPTUNE_HOST=127.0.0.1). Set LANGPTUNE_GATEWAY_AUTH=jwt"
                )
            return self
        if self.gateway_jwks:
            _check_source(self.gateway_jwks)
        elif self.environment == "production":
            raise ValueError("LANGPTUNE_ENVIRONMENT=production checks tokens by a key set: set LANGPTUNE_GATEWAY_JWKS")
        elif len(secret := self.gateway_jwt_secret.get_secret_value().encode()) < LEAST_SECRET:
            raise ValueError(f"LANGPTUNE_GATEWAY_JWT_SECRET has {len(secret)} bytes; it needs {LEAST_SECRET} or more")
        elif secret == DEVELOPMENT_SECRET.encode() and not loopback:
            raise ValueError(
                "LANGPTUNE_GATEWAY_JWT_SECRET is the default, which everybody knows; on an address that others reach set one of "
                "your own, or LANGPTUNE_GATEWAY_JWKS"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_source(source: str) -> None:
    parts = urlsplit(source)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("LANGPTUNE_GATEWAY_JWKS must be an https URL: whoever can change the answer can sign tokens")
