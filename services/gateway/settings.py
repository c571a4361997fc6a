"""The gateway's settings: environment variables LANGPTUNE_<NAME>."""

from __future__ import annotations

from pydantic import Field

from langptune.settings import RedisSettings, ServiceSettings
from langptune.text import DEFAULT_DOMAIN


class GatewaySettings(RedisSettings, ServiceSettings):
    """Where the other services are, and how much is kept of what users leave."""

    gateway_port: int = Field(default=50051, ge=1, le=65535, description="port to listen on")
    gateway_http_port: int = Field(
        default=8080, ge=0, le=65535, description="port of the page and of JSON RPCs; 0: neither is served"
    )
    gateway_http_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost"), description="host names that the page may be reached by, a JSON list; * allows any"
    )
    encoder_address: str = Field(default="127.0.0.1:50052", description="host:port of the encoder")
    decoder_address: str = Field(default="127.0.0.1:50053", description="host:port of the decoder")
    trainer_address: str = Field(default="127.0.0.1:50054", description="host:port of the trainer")
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
    revisions_kept: int = Field(default=1_000, ge=2, le=100_000, description="profile revisions kept per user")
