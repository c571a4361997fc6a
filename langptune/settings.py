"""Settings: typed, frozen, read once from environment variables LANGPTUNE_<NAME> (or a .env file).

What all services share stands here; each service adds its own in services/<name>/settings.py. Every setting has a comment,
a unit and a default; a bad one stops the start with a sentence that names it.
"""

from __future__ import annotations

import json
import sys
from typing import Literal, Self, TypeVar

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SettingsT = TypeVar("SettingsT", bound="ServiceSettings")

# Each class below names it: of several bases, pydantic takes the last one's.
_CONFIG = SettingsConfigDict(env_prefix="LANGPTUNE_", env_file=".env", extra="ignore", frozen=True)


class ServiceSettings(BaseSettings):
    """What every service needs to know."""

    model_config = _CONFIG

    environment: Literal["development", "production"] = Field("development", description="development allows default secrets")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all interfaces")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    log_key: SecretStr = Field(
        SecretStr(""), description="what user ids are hashed with in logs; empty: each process makes its own at its start"
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias=AliasChoices("otlp_endpoint", "LANGPTUNE_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="where traces are sent (OTLP over gRPC), http://host:port; empty: nothing is traced",
    )
    shutdown_grace: float = Field(20.0, ge=0, le=600, description="seconds that running calls get after SIGTERM")
    max_message_bytes: int = Field(16 << 20, ge=1 << 16, description="largest gRPC message, in bytes")
    call_timeout: float = Field(30.0, gt=0, description="deadline of a call to another service, in seconds, where none is given")

    tls_certificate: str = Field("", description="PEM file that proves to other services who this is; empty: plain connections")
    tls_key: str = Field("", description="PEM file of its key")
    tls_authority: str = Field("", description="PEM file of the authority that other services' certificates must be signed by")
    health_port: int = Field(0, ge=0, le=65_535, description="port of health checks without TLS, for probes; 0: none")

    @property
    def peer_files(self) -> tuple[str, str, str]:
        """Certificate, key and authority between services, all empty without TLS."""
        return self.tls_certificate, self.tls_key, self.tls_authority

    @property
    def door_files(self) -> tuple[str, str, str]:
        """The same of the listening address; without an authority callers need no certificate."""
        return self.peer_files

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        if any(self.peer_files) and not all(self.peer_files):
            raise ValueError("LANGPTUNE_TLS_CERTIFICATE, LANGPTUNE_TLS_KEY and LANGPTUNE_TLS_AUTHORITY go together")
        return self

    @classmethod
    def load(cls) -> Self:
        """The settings of this process; ends it with exit code 2 and a sentence for each bad one."""
        try:
            return cls()
        except ValidationError as error:
            for problem in error.errors():
                name = "_".join(str(part) for part in problem["loc"]).upper().removeprefix("LANGPTUNE_")
                bad = f"bad setting LANGPTUNE_{name}" if name else "bad settings"  # of several that do not go together
                sys.stderr.write(f"{bad}: {problem['msg'].removeprefix('Value error, ')}\n")
            raise SystemExit(2) from None

    def describe(self) -> str:
        """The resolved settings as JSON, secrets masked; what --print-config shows."""
        return json.dumps(self.model_dump(mode="json"), indent=2)


class RedisSettings(BaseSettings):
    """For services that keep state in Redis."""

    model_config = _CONFIG

    metrics_seconds: float = Field(5.0, gt=0, le=300, description="seconds between two looks at Redis for the metrics")

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:50055/0"), description="where Redis is, password included")
    redis_timeout: float = Field(5.0, gt=0, description="deadline of one Redis command, in seconds")


class WeightsSettings(BaseSettings):
    """For services that read or write weights versions."""

    model_config = _CONFIG

    weights_uri: str = Field(
        "build/langptune/weights", description="root of the weights store: a folder or an fsspec URI (s3://...)"
    )
    weights_cache: str = Field("build/langptune/weights-cache", description="local folder for versions of a remote store")
    profile_model: str = Field(
        "google/gemma-2b-it", description="base model of the profile encoder: a Hugging Face id or a folder of that format"
    )
    embedding_model: str = Field(
        "mixedbread-ai/mxbai-embed-large-v1", description="base model of the decoder's embedder: a hub id or a folder"
    )
